"""Which winner of a search is real? `python -m study.confirm --top 5`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import model_validator

from fer import command
from fer.errors import UserError
from fer.files import check_file
from fer.output import say
from study.options import (
    START,
    Count,
    Existing,
    Pipelined,
    Place,
    Seeds,
    command_line,
    deadline,
)

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from study.pipeline import Pipeline, Settings
    from study.spec.spec import Spec


RACE = "race"  # stored with a confirmation if beaten settings get no further seeds


class Options(Existing, Place, Pipelined, Seeds):
    """Retrain the best settings of a search and its control with fresh seeds, and report whether
    a winner beats the control by more than noise.

    The confirmation is a study of its own; run the same command again to finish it.
    """

    top: Count = 5
    """Number of settings to retrain: those of the best complete trials."""
    seeds: Count = 6
    """Seeds per setting, starting after the search's own. Six is the minimum at which a sign test
    can tell two settings apart at 5%."""
    race: bool = True
    """Give settings that are clearly beaten by the best one no further seeds, once all have
    three."""
    epochs: Count | None = None
    """Epochs per trial; default: those of the search."""
    whole: bool = False
    """Train and validate on all images if the search used a subset."""
    vary_split: bool = False
    """Split the images anew for each seed instead of using the search's split: the spread over
    seeds then includes the noise of the choice of validation images (arXiv 2405.15393)."""
    out: Path | None = None
    """PNG file for a picture of the results; an existing file is replaced."""

    @model_validator(mode="after")
    def _a_picture(self) -> "Options":
        check_file("--out", self.out, (".png",))
        return self


def main() -> None:
    options: Options = command.parse(Options, "study.confirm")
    options.refuse(*Place.model_fields, "whole", "vary_split")
    until = deadline(options)
    say(START)

    import optuna

    from study.analysis import race
    from study.analysis.noise import noise_elsewhere
    from study.analysis.odds import few_seeds
    from study.dashboard.show import show_study, show_trials
    from study.engine.conduct import Request, conduct
    from study.spec.faces import pipeline_again
    from study.spec.identity import IDENTITY, is_search
    from study.storage.opening import hidden
    from study.storage.records import kept
    from study.storage.studies import load_studies, load_study

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    search = load_study(options.storage, options.study, search=True)
    identity = kept(search, IDENTITY, {})
    if not identity or not is_search(identity):
        raise UserError(f"study {search.study_name!r} is not a search; name one with --study")
    pipeline = pipeline_again(
        *(options.pipeline, search.study_name, identity, options.data, options.device),
        whole=options.whole,
        vary_split=options.vary_split,
    )
    spec, searched = question(options, search, pipeline)
    url = options.storage
    noise = noise_elsewhere(load_studies(url), identity)
    if note := few_seeds(options.seeds, len(searched), pipeline.validation, noise):
        say(note)

    def conclude(study: "optuna.Study") -> None:
        studies = load_studies(url)
        show(study, search, searched, studies, options)
        for each in (study.study_name, search.study_name):  # a confirmation changes both verdicts
            show_study(optuna.load_study(study_name=each, storage=study._storage), studies, url)

    line = command_line("study.confirm", sys.argv[1:], hidden(url))
    rule = race.rule if RACE in spec.about else None
    request = Request.of_comparison(
        pipeline, spec, options, command=line, deadline=until, show=show_trials, race=rule
    )
    done = conduct(request, conclude)
    sys.exit(done.exit_code)


def question(
    options: Options, search: "optuna.Study", pipeline: "Pipeline"
) -> "tuple[Spec, dict[str, float]]":
    """Return the spec of a confirmation (the best of a search and its control, with fresh seeds),
    and by label the scores by which the search chose."""
    from study.engine.race import LEAST
    from study.spec.identity import IDENTITY
    from study.spec.spec import Kind, comparing
    from study.storage.records import kept

    identity = kept(search, IDENTITY)
    control, given = next(iter(pipeline.presets.items()), ("the base settings", {}))
    given = {key: each for key, each in given.items() if pipeline.base.get(key) != each}
    chosen = best_settings(search, pipeline.base, given, options.top)
    about: dict[str, Any] = {"search": search.study_name, "top": options.top}
    if options.race and options.seeds > LEAST:
        about[RACE] = True
    spec = comparing(
        Kind.CONFIRM,
        "confirm",
        pipeline,
        {control: given, **{label(trial): changes for trial, changes in chosen}},
        options.seeds,
        options.epochs or identity["epochs"],
        first_seed=identity["seed"] + 1,
        about=about,
    )
    return spec, {label(trial): trial.value or 0.0 for trial, _ in chosen}


def best_settings(
    search: "optuna.Study", base: "Settings", control: "Settings", top: int
) -> "list[tuple[FrozenTrial, Settings]]":
    """Return the best complete trials with distinct settings, and their changes from `base`.

    Trials with the settings of the `control` are skipped. Raises UserError if no other is left.
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
            f"study {search.study_name!r} has no complete trial with settings other than its "
            "control's"
        )
    return list(found[:top])


def show(
    study: "optuna.Study",
    search: "optuna.Study",
    searched: dict[str, float],
    studies: "list[optuna.Study]",
    options: Options,
) -> None:
    """Print the results and the next steps, and draw the picture.

    `searched` maps labels to the scores by which the search chose; `studies` are all of its
    database.
    """
    from study.analysis import confirmation
    from study.analysis.commands import say_next
    from study.analysis.comparison import effects_table
    from study.analysis.effects import effects
    from study.analysis.next_steps import next_steps
    from study.analysis.noise import noise_elsewhere
    from study.analysis.picture import save_plot
    from study.analysis.tables import own_console
    from study.analysis.verdicts import judge
    from study.spec.identity import IDENTITY
    from study.storage.records import finished, kept

    identity = kept(study, IDENTITY)
    control, noise = confirmation.control_of(identity), noise_elsewhere(studies, identity)
    found = effects(study, identity)
    title = f"best of {search.study_name}"
    verdicts = judge(found, control, elsewhere=noise)
    console = own_console()
    console.print(effects_table(found, title, control, verdicts, console.width))
    said = confirmation.in_words(study, search, searched, verdicts, noise)
    for line in said:
        say(line)
    if options.out is not None and any(effect.scores for effect in found):
        save_plot(found, title, control, verdicts, options.out)
        print(f"saved  {command.printable(str(options.out))}")
    if len(finished(study)) < len(identity["space_definition"]["variants"]) * options.seeds:
        return
    say_next(next_steps(study, studies, options.storage, options.pipeline, options.data))


def label(trial: "FrozenTrial") -> str:
    """Return a trial's number, and the origin of its settings if the search did not find them."""
    from study.storage.records import ORIGIN

    origin = trial.user_attrs.get(ORIGIN)
    return f"trial {trial.number}{f' ({origin})' if origin else ''}"


if __name__ == "__main__":
    command.run(main, lasting=True)
