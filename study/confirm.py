"""Which winner of a search is real? `python -m study.confirm --top 5 --seeds 5`."""

import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import model_validator

from fer import command
from fer.errors import UserError
from study.options import Count, Existing, Pipelined, Place, Seeds, command_line, deadline

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from study.analysis.effects import Effect
    from study.analysis.noise import Noise
    from study.pipeline import Settings


class Options(Existing, Place, Pipelined, Seeds):
    """Train the best settings of a search again, beside the control it began with, with seeds
    that had no part in choosing them, and say whether a winner is one by more than the noise.

    A study of its own; the same command finishes it.
    """

    top: Count = 5
    """Settings to train again: those of the best complete trials."""
    seeds: Count = 5
    """Trials of each, with the seeds after the search's own."""
    epochs: Count | None = None
    """Epochs of a trial; by default those of the search."""
    whole: bool = False
    """Train and validate on all images, where the search had a subset of them."""
    vary_split: bool = False
    """Split the images anew for each seed, else all have the search's split: the spread over seeds
    then holds the noise of which images validate as well (arXiv 2405.15393)."""
    out: Path | None = None
    """PNG file for a picture of what came out."""

    @model_validator(mode="after")
    def _a_picture(self) -> "Options":
        if self.out is not None and (
            self.out.suffix != ".png" or self.out.is_dir() or not self.out.parent.is_dir()
        ):
            raise ValueError(f"--out must be a .png file in an existing folder, got {self.out}")
        return self


def main() -> None:
    options: Options = command.parse(Options, "study.confirm")
    options.refuse(*Place.model_fields, "whole", "vary_split")
    until = deadline(options)

    import optuna

    from study.analysis.noise import noise_elsewhere
    from study.engine.conduct import Request, conduct
    from study.spec.faces import pipeline_again
    from study.spec.identity import IDENTITY, is_search
    from study.spec.spec import Kind, comparing
    from study.storage.studies import hidden, load_studies, load_study

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    search = load_study(options.storage, options.study, search=True)
    identity = search.user_attrs.get(IDENTITY, {})
    if not identity or not is_search(identity):
        raise UserError(f"study {search.study_name!r} is no search; name one with --study")
    pipeline = pipeline_again(
        *(options.pipeline, search.study_name, identity, options.data, options.device),
        whole=options.whole,
        vary_split=options.vary_split,
    )
    control, given = next(iter(pipeline.presets.items()), ("the base settings", {}))
    given = {key: each for key, each in given.items() if pipeline.base.get(key) != each}
    chosen = best_settings(search, pipeline.base, given, options.top)
    spec = comparing(
        Kind.CONFIRM,
        "confirm",
        pipeline,
        {control: given, **{label(trial): changes for trial, changes in chosen}},
        options.seeds,
        options.epochs or identity["epochs"],
        first_seed=identity["seed"] + 1,
        about={"search": search.study_name, "top": options.top},
    )
    trials = [trial for trial, _ in chosen]

    def conclude(study: "optuna.Study") -> None:
        noise = noise_elsewhere(load_studies(options.storage), study.user_attrs[IDENTITY])
        show(study, search, control, trials, noise, options.out)

    line = command_line("study.confirm", sys.argv[1:], hidden(options.storage))
    search_options = options.unpruned(len(spec.queue))
    request = Request(
        pipeline, spec, running=options, search=search_options, command=line, deadline=until
    )
    done = conduct(request, conclude)
    sys.exit(done.exit_code)


def best_settings(
    search: "optuna.Study", base: "Settings", control: "Settings", top: int
) -> "list[tuple[FrozenTrial, Settings]]":
    """The best complete trials that differ in their settings, and what these change of `base`.

    Those of the `control` are left out. Raises UserError if there is no other.
    """
    from study.analysis.summary import complete_of
    from study.spec.faces import in_this_version
    from study.spec.identity import IDENTITY
    from study.spec.spec import BUDGET
    from study.storage.records import settings_of

    found: list[tuple[FrozenTrial, dict[str, Any]]] = []
    for trial, _ in complete_of(search):
        settings = in_this_version(settings_of(trial), search.user_attrs[IDENTITY], trial.number)
        changes = {
            key: value
            for key, value in settings.items()
            if key not in BUDGET and value != base.get(key)
        }
        if changes != control and changes not in [other for _, other in found]:
            found.append((trial, changes))
    if not found:
        raise UserError(
            f"study {search.study_name!r} has no complete trial with other settings than its "
            "control's"
        )
    return list(found[:top])


def show(
    study: "optuna.Study",
    search: "optuna.Study",
    control: str,
    trials: "list[FrozenTrial]",
    noise: "Noise",
    out: Path | None,
) -> None:
    """Say what came out, and draw it. `noise` is that of other comparisons like this one."""
    from study.analysis.comparison import confirmed, effects_table, in_brackets
    from study.analysis.effects import effects, save_plot
    from study.analysis.tables import own_console
    from study.analysis.verdicts import judge
    from study.spec.identity import IDENTITY

    identity, searched = study.user_attrs[IDENTITY], search.user_attrs[IDENTITY]
    found = effects(study, identity)
    title = f"best of {search.study_name}"
    verdicts = judge(found, control, elsewhere=noise)
    own_console().print(effects_table(found, title, control, verdicts))
    same = ("epochs", "subset", "split_seed", "scored_epochs")
    alike = all(identity.get(key) == searched.get(key) for key in same)
    if alike and (drop := flattery(found, trials)) is not None:
        print(f"on average {drop:+.2f} points against what the same settings had in the search")
    print(confirmed(found, verdicts, control))
    print(in_brackets(found, identity))
    if out is not None and any(effect.scores for effect in found):
        save_plot(found, title, control, out)
        print(f"saved  {command.printable(str(out))}")


def flattery(found: "list[Effect]", trials: "list[FrozenTrial]") -> float | None:
    """Points by which means over seeds lie above what the trials had that were chosen."""
    means = {effect.label: effect.mean for effect in found if effect.scores}
    gaps = [
        100 * (means[label(trial)] - (trial.value or 0.0))
        for trial in trials
        if label(trial) in means
    ]
    return statistics.fmean(gaps) if gaps else None


def label(trial: "FrozenTrial") -> str:
    """Its number, and whose settings they are where it did not search for them."""
    from study.storage.records import ORIGIN

    origin = trial.user_attrs.get(ORIGIN)
    return f"trial {trial.number}{f' ({origin})' if origin else ''}"


if __name__ == "__main__":
    command.run(main, lasting=True)
