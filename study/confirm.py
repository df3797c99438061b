"""Which winner of a search is real? `python -m study.confirm --top 5`."""

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


FEW = 4  # seeds, below which a word of warning comes first
DISAGREE = 0.22
"""Share of the images of FER-2013 on which two runs of equal settings disagree, measured."""


class Options(Existing, Place, Pipelined, Seeds):
    """Train the best settings of a search again, beside the control it began with, with seeds
    that had no part in choosing them, and say whether a winner is one by more than the noise.

    A study of its own; the same command finishes it.
    """

    top: Count = 5
    """Settings to train again: those of the best complete trials."""
    seeds: Count = 6
    """Trials of each, with the seeds after the search's own. Six are the fewest whose signs alone
    can tell two settings apart at 5%."""
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
    from study.dashboard.show import show_study, show_trials
    from study.engine.conduct import Request, conduct
    from study.spec.faces import pipeline_again
    from study.spec.identity import IDENTITY, is_search
    from study.spec.spec import Kind, comparing
    from study.storage.records import kept
    from study.storage.studies import hidden, load_studies, load_study

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    search = load_study(options.storage, options.study, search=True)
    identity = kept(search, IDENTITY, {})
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
    trials, url = [trial for trial, _ in chosen], options.storage
    if options.seeds < FEW:
        noise = noise_elsewhere(load_studies(options.storage), identity)
        say_what_few_seeds_find(options.seeds, len(chosen), noise, pipeline.validation)

    def conclude(study: "optuna.Study") -> None:
        studies = load_studies(options.storage)
        noise = noise_elsewhere(studies, kept(study, IDENTITY))
        show(study, search, control, trials, noise, options.out)
        for each in (study.study_name, search.study_name):  # it changes what is said of both
            show_study(optuna.load_study(study_name=each, storage=study._storage), studies, url)

    line = command_line("study.confirm", sys.argv[1:], hidden(options.storage))
    request = Request(
        pipeline,
        spec,
        running=options,
        search=options.unpruned(len(spec.queue)),
        command=line,
        deadline=until,
        show=show_trials,
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
    from study.storage.records import kept, settings_of

    found: list[tuple[FrozenTrial, dict[str, Any]]] = []
    for trial, _ in complete_of(search):
        settings = in_this_version(settings_of(trial), kept(search, IDENTITY), trial.number)
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
    from study.analysis import images, odds
    from study.analysis.comparison import confirmed, effects_table, in_brackets
    from study.analysis.effects import effects, save_plot
    from study.analysis.tables import own_console
    from study.analysis.verdicts import judge
    from study.spec.identity import IDENTITY
    from study.storage.records import kept

    identity, searched = kept(study, IDENTITY), kept(search, IDENTITY)
    found = effects(study, identity)
    title = f"best of {search.study_name}"
    verdicts = judge(found, control, elsewhere=noise)
    own_console().print(effects_table(found, title, control, verdicts))
    print(in_brackets(found, identity))
    print(f"\n{confirmed(found, verdicts, control)}")
    for line in odds.in_words(found, control, noise):
        print(line)
    same = ("epochs", "subset", "split_seed", "scored_epochs")
    alike = all(identity.get(key) == searched.get(key) for key in same)
    if alike and (shrinkage := flattery(found, trials)):
        print(shrinkage)
    if spread := images.spread_of(found):
        print(
            f"A score spreads over seeds by {spread.flips:.2f} points as if each image flipped by "
            f"itself, and by {spread.together:.2f} that move all images together; over other sets "
            f"of {spread.images} images by {spread.sample:.2f}."
        )
    if out is not None and any(effect.scores for effect in found):
        save_plot(found, title, control, out)
        print(f"saved  {command.printable(str(out))}")


def flattery(found: "list[Effect]", trials: "list[FrozenTrial]") -> str:
    """How much of the scores by which settings were chosen is gone with other seeds, in words."""
    from scipy import stats

    means = {effect.label: effect.mean for effect in found if effect.scores}
    lost = {
        label(trial): 100 * ((trial.value or 0.0) - means[label(trial)])
        for trial in trials
        if label(trial) in means
    }
    if not lost:
        return ""
    each = ", ".join(f"{name} {points:+.2f}" for name, points in lost.items())
    if len(lost) < 3:
        return f"Points by which the search flattered them: {each}."
    mean = statistics.fmean(lost.values())
    error = statistics.stdev(lost.values()) / len(lost) ** 0.5
    width = float(stats.t.ppf(0.975, len(lost) - 1)) * error
    return (
        f"The search flattered them by {mean:.2f} points on average "
        f"[{mean - width:+.2f}, {mean + width:+.2f}]: {each}."
    )


def say_what_few_seeds_find(seeds: int, settings: int, noise: "Noise", cases: int) -> None:
    """Warn that so few seeds tell little. `cases` is the number of validation cases, 0 if
    unknown."""
    from study.analysis.odds import found_by

    if seeds < 2:
        print("note: one seed confirms nothing: give --seeds 2 or more, better 6")
        return
    of_a_run = (2 * noise.variance) ** 0.5
    if not noise.df:
        of_a_run = 100 * (DISAGREE / cases) ** 0.5 if cases else 0.0
    if of_a_run:
        few, more = (found_by(each, settings, of_a_run) for each in (seeds, 6))
        print(
            f"note: {seeds} seeds find a difference of about {few:.1f} points in 80% of repeats, "
            f"six seeds one of {more:.1f}"
        )


def label(trial: "FrozenTrial") -> str:
    """Its number, and whose settings they are where it did not search for them."""
    from study.storage.records import ORIGIN

    origin = trial.user_attrs.get(ORIGIN)
    return f"trial {trial.number}{f' ({origin})' if origin else ''}"


if __name__ == "__main__":
    command.run(main, lasting=True)
