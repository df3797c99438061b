"""What to do after a search or its confirmation: the commands, and what each is for."""

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import optuna
from optuna.trial import TrialState

from fer.command import quoted
from study.analysis import odds
from study.analysis.answer import confirmation_of
from study.analysis.commands import (
    confirm_command,
    dashboard_command,
    export_command,
    of_what,
    report_command,
    train_command,
)
from study.analysis.confirmation import control_of
from study.analysis.effects import Effect, effects
from study.analysis.noise import Noise, noise_elsewhere
from study.analysis.verdicts import Verdict, highest, judge, known
from study.options import is_default, replaced
from study.spec.identity import IDENTITY, kind_of
from study.spec.spec import Kind
from study.storage.opening import hidden
from study.storage.records import kept, to_come
from study.storage.studies import COMMAND

ENOUGH = 6  # minimum number of seeds to suggest
UNCONFIRMED = "the best so far, not confirmed"
FINISH = "finish the confirmation"
MORE_SEEDS = "retrain the best with more seeds"


def next_steps(
    study: optuna.Study,
    studies: Sequence[optuna.Study],
    url: str,
    pipeline: str | None = None,
    data: Path | None = None,
) -> dict[str, str]:
    """Return the commands to run after a search or a confirmation, each with its purpose.

    `studies` are all studies of the database at `url`. A search that was confirmed continues as
    its confirmation, and a confirmation as the largest one of its search. `pipeline` is needed if
    the study was started from Python, `data` if its images have moved.
    """
    images, stored = of_what(study)
    images |= {"data": data} if data else {}
    pipeline = pipeline or stored
    name = study.study_name
    again = continued_as(study, studies)
    if again is None:
        first = confirm_command(name, url, pipeline, images.get("data"))
        steps, exported, why = {first: "is the best real?"}, name, "the best settings"
    else:
        seeds, why = outcome_of(again, studies)
        exported, steps = again.study_name, {}
        if search_of(again) in {each.study_name for each in studies}:  # it was not deleted
            steps = confirming(again, url, seeds, pipeline, images.get("data"))
    complete = (TrialState.COMPLETE,)
    if not study.get_trials(deepcopy=False, states=complete):  # nothing to show or export
        return steps if again is not None and to_come(again) else {}
    steps |= {
        report_command(name, url): "the whole study as a page",
        dashboard_command(url): "look at every trial",
        export_command(exported, url): why,
    }
    if pipeline is None:
        steps[train_command(exported, images)] = "the final model"
    return steps


def continued_as(study: optuna.Study, studies: Sequence[optuna.Study]) -> optuna.Study | None:
    """Return the largest confirmation of a search or of a confirmation's search, or one that has
    just begun; None without any."""
    confirms = kind_of(kept(study, IDENTITY)) == Kind.CONFIRM
    search = search_of(study) if confirms else study.study_name
    begun = (
        each
        for each in studies
        if kind_of(kept(each, IDENTITY)) == Kind.CONFIRM and search_of(each) == search
    )
    own = study if confirms else next(filter(to_come, begun), None)
    return confirmation_of(search, studies) or own


def search_of(again: optuna.Study) -> str:
    """Return the name of the search that a study confirms."""
    return str(kept(again, IDENTITY)["space_definition"]["search"])


def confirming(
    again: optuna.Study,
    url: str,
    seeds: int | None,
    pipeline: str | None,
    data: Path | str | None,
) -> dict[str, str]:
    """Return the command that finishes a confirmation or continues it with `seeds`, with its
    purpose. Empty if it is finished and more seeds would not help."""
    if seeds is None and not to_come(again):
        return {}
    search = search_of(again)
    wanted: dict[str, object] = {"study": search, "timeout": None}
    wanted["storage"] = None if is_default(url) else hidden(url)
    if data:
        wanted["data"] = data
    made = again.user_attrs.get(COMMAND)
    if not made:  # by an older version
        made = confirm_command(search, url, pipeline)
        about = kept(again, IDENTITY)["space_definition"]
        wanted |= {name: about[name] for name in ("top", "seeds") if name in about}
    if seeds is not None:
        wanted["seeds"] = seeds
    arguments = replaced(shlex.split(made)[3:], **wanted)  # without python -m study.confirm
    why = FINISH if seeds is None else MORE_SEEDS
    return {f"python -m study.confirm {quoted(*arguments)}": why}


def outcome_of(again: optuna.Study, studies: Sequence[optuna.Study]) -> tuple[int | None, str]:
    """Return how many seeds to continue a confirmation with, if more would help, and what
    `study.export` exports of it."""
    if to_come(again):
        return None, UNCONFIRMED
    identity = kept(again, IDENTITY)
    found, control = effects(again, identity), control_of(identity)
    noise = noise_elsewhere(studies, identity)
    verdicts = judge(found, control, elsewhere=noise)
    seeds = seeds_for_a_verdict(found, control, verdicts, noise)
    return seeds, winner_in_words(verdicts, control)


def seeds_for_a_verdict(
    found: Sequence[Effect], control: str, verdicts: Mapping[str, Verdict], noise: Noise
) -> int | None:
    """Return how many seeds to continue with; None if there is a verdict or more seeds would
    hardly lead to one."""
    told = known(verdicts)
    if any(each.word == "better" for each in told.values()):
        return None
    more = max(ENOUGH, 2 + max(len(effect.seeds) for effect in found))
    if not told:  # a single seed, or everything diverged
        return more
    if all(each.word == "worse" for each in told.values()):
        return None
    needed = odds.seeds_for_the_best(found, control, noise)
    return None if math.isinf(needed) else max(math.ceil(needed), more)


def winner_in_words(verdicts: Mapping[str, Verdict], control: str) -> str:
    """Return the settings to export given the verdicts on all of them."""
    told = known(verdicts)
    better = {label: each for label, each in told.items() if each.word == "better"}
    if better:
        return f"the settings of {highest(better)}, confirmed"
    if told and all(each.word == "worse" for each in told.values()):
        return f"the best settings: {control}"
    return UNCONFIRMED
