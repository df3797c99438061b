"""Which winner of a search is real? `python -m study.confirm --top 5 --seeds 5`."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fer import command
from fer.errors import UserError
from study.compare import Training

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from fer.config import Config
    from fer.data import Faces
    from study.effects import Effect
    from study.question import Changes

CONFIRM = "confirm"
"""Begins the names of the studies that confirm another one."""


@dataclass(frozen=True)
class Options:
    """Train the best settings of a search again, beside the report's final ones, with seeds that
    had no part in choosing them, and say whether a winner is one by more than their noise.

    A study of its own; the same command finishes it.
    """

    study: str | None = None
    """Name of the search; by default the one that was worked on last."""
    storage: str = "sqlite:///studies.db"
    """SQLAlchemy URL of the database of studies."""
    top: int = 5
    """Settings to train again: those of the best complete trials."""
    seeds: int = 5
    """Trials of each, with the seeds after the search's own."""
    epochs: int | None = None
    """Training epochs of a trial; by default the search's."""
    whole: bool = False
    """Train and validate on all images, where the search had a subset."""
    data: Path | None = None
    """The study's images in any known form; else FER_DATA, ./data, or demo faces."""
    workers: int | None = None
    """Trials at once: processes on a processor, streams on a GPU; by default what serves best."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    timeout: float | None = None
    """Stop this many seconds after the start, once the epochs that run have ended; the same
    command continues later."""
    checkpoints: Path | None = None
    """Folder for the states of interrupted trials."""
    out: Path | None = None
    """PNG file for a picture of what came out."""

    def __post_init__(self) -> None:
        for name in ("top", "seeds", "epochs"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"--{name} must be at least 1, got {value}")
        if self.out is not None and (
            self.out.suffix != ".png" or self.out.is_dir() or not self.out.parent.is_dir()
        ):
            raise UserError(f"--out must be a .png file in an existing folder, got {self.out}")


def main() -> None:
    options: Options = command.parse(Options, "study.confirm")

    import optuna

    from fer import data
    from fer.config import EMOTIONS, PRESETS
    from study import storage as store
    from study.identity import IDENTITY, check_data, is_search
    from study.question import comparing
    from study.search import conduct
    from study.space import HAND_TUNED

    begin = time.monotonic()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    search = store.load_study(options.storage, options.study, search=True)
    identity = search.user_attrs.get(IDENTITY, {})
    if not identity or not is_search(identity):
        raise UserError(f"study {search.study_name!r} is no search; name one with --study")
    removed = tuple(name for name in EMOTIONS if name not in identity["classes"])
    check_data(search.study_name, identity, data.load(options.data, removed))
    training = Training(
        seeds=options.seeds,
        epochs=options.epochs or identity["epochs"],
        data=options.data,
        subset=None if options.whole else identity["subset"],
        split=identity["split"],
        workers=options.workers,
        device=options.device,
        precision=identity["precision"],
        storage=options.storage,
        timeout=options.timeout,
        checkpoints=options.checkpoints,
    )
    base = PRESETS[HAND_TUNED]
    chosen = best_settings(search, base, options.top)
    question = comparing(
        CONFIRM,
        base,
        {HAND_TUNED: {}, **{label(trial): changes for trial, changes in chosen}},
        options.seeds,
        first_seed=identity["seed"] + 1,
        about={"search": search.study_name, "top": options.top},
    )
    run_options = training.run_options(len(question.queue), begin, removed)
    if run_options is None:
        print("the time is up before the first trial; the same command continues")
        return

    def conclude(study: "optuna.Study", validation: "Faces") -> None:
        from study.display import own_console
        from study.effects import INTERVALS, effects, effects_table, save_plot

        found = effects(study, study.user_attrs[IDENTITY])
        title = f"best of {search.study_name}"
        own_console().print(effects_table(found, title, HAND_TUNED))
        alike = all(
            study.user_attrs[IDENTITY][key] == identity[key] for key in ("epochs", "subset")
        )
        if alike and (drop := flattery(found, [trial for trial, _ in chosen])) is not None:
            print(
                f"on average {drop:+.2f} points against what the same settings had in the search"
            )
        print(in_words(found))
        print(INTERVALS)
        if options.out is not None and any(effect.accuracies for effect in found):
            save_plot(found, title, HAND_TUNED, options.out)
            print(f"saved  {command.printable(str(options.out))}")

    conduct(run_options, question, conclude)


def best_settings(
    search: "optuna.Study", base: "Config", top: int
) -> "list[tuple[FrozenTrial, Changes]]":
    """The best complete trials that differ in their settings, and what these change of `base`.

    Raises UserError if there is none.
    """
    from optuna.trial import TrialState

    from study import storage as store
    from study.question import SETTLED

    complete = search.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    ours = base.settings()
    found: list[tuple[FrozenTrial, Changes]] = []
    for trial in sorted(complete, key=lambda trial: -(trial.value or 0.0)):
        settings = store.config_of(trial).settings()
        changes = {
            key: value
            for key, value in settings.items()
            if key not in SETTLED and value != ours[key]
        }
        if changes and changes not in [other for _, other in found]:
            found.append((trial, changes))
    if not found:
        raise UserError(
            f"study {search.study_name!r} has no complete trial with other settings than the "
            "report's"
        )
    return found[:top]


def flattery(found: "list[Effect]", trials: "list[FrozenTrial]") -> float | None:
    """Points by which means over seeds lie above what the trials had that were chosen."""
    import statistics

    means = {effect.label: effect.mean for effect in found if effect.accuracies}
    gaps = [
        100 * (means[label(trial)] - (trial.value or 0.0))
        for trial in trials
        if label(trial) in means
    ]
    return statistics.fmean(gaps) if gaps else None


def label(trial: "FrozenTrial") -> str:
    """Its number, and whose settings they are where it did not search for them."""
    from study import storage as store

    origin = trial.user_attrs.get(store.ORIGIN)
    return f"trial {trial.number}{f' ({origin})' if origin else ''}"


def in_words(found: "list[Effect]") -> str:
    """Whether one of the settings is better than the report's final ones."""
    from study.effects import judge
    from study.space import HAND_TUNED

    if next(effect for effect in found if effect.label == HAND_TUNED).diverged:
        return "no verdict: the report's final settings diverged"
    # One that diverged, or of which a single seed was trained, says nothing of the others.
    judged = [each for each in found if len(each.seeds) > 1 and not each.diverged]
    if len(judged) < 2 or HAND_TUNED not in [effect.label for effect in judged]:
        return "no verdict: two seeds of the report's final settings and of another are needed"
    verdict, why = judge(judged, HAND_TUNED)
    meaning = {
        "refuted": "a real winner, better than the report's final settings by more than the noise",
        "confirmed": "no winner, the report's final settings are better by more than the noise",
        "within noise": "no winner beyond the noise of the seeds",
    }
    return f"{meaning[verdict]}: {why}"


if __name__ == "__main__":
    command.run(main)
