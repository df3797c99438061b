"""What to do after a search or its confirmation: the commands, and what each is for."""

import math
import shlex
from collections.abc import Mapping, Sequence

import optuna

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
from study.options import command_line, replaced
from study.spec.identity import IDENTITY, kind_of
from study.spec.spec import Kind
from study.storage.opening import hidden
from study.storage.records import kept, to_come
from study.storage.studies import COMMAND

ENOUGH = 6  # minimum number of seeds to suggest
UNCONFIRMED = "the best so far, not confirmed"
MORE_SEEDS = "retrain the best with more seeds"


def next_steps(
    study: optuna.Study,
    studies: Sequence[optuna.Study],
    url: str,
    pipeline: str | None = None,
) -> dict[str, str]:
    """Return the commands to run after a search or a confirmation, each with its purpose.

    `studies` are all studies of the database at `url`; `pipeline` is the name of the pipeline if
    the study was started from Python. A search that was confirmed goes on as its confirmation.
    """
    name, exported, why = study.study_name, study.study_name, "the best settings"
    images, stored = of_what(study)
    pipeline = pipeline or stored
    confirms = kind_of(kept(study, IDENTITY)) == Kind.CONFIRM
    again = study if confirms else confirmation_of(name, studies)
    steps: dict[str, str] = {}
    if again is None:
        steps[confirm_command(name, url, pipeline, images.get("data"))] = "is the best real?"
    else:
        steps, why = after_confirmation(again, studies, url)
        exported = again.study_name
    steps |= {
        report_command(name, url): "the whole study as a page",
        dashboard_command(url): "look at every trial",
        export_command(exported, url): why,
    }
    if pipeline is None:
        steps[train_command(images)] = "the final model"
    return steps


def after_confirmation(
    again: optuna.Study, studies: Sequence[optuna.Study], url: str
) -> tuple[dict[str, str], str]:
    """Return the command that continues a confirmation, if more runs would help, and what
    `study.export` exports of it."""
    if to_come(again):
        return {confirming_on(again, url): "finish the confirmation"}, UNCONFIRMED
    identity = kept(again, IDENTITY)
    found, control = effects(again, identity), control_of(identity)
    noise = noise_elsewhere(studies, identity)
    verdicts = judge(found, control, elsewhere=noise)
    seeds = seeds_for_a_verdict(found, control, verdicts, noise)
    more = {confirming_on(again, url, seeds=seeds): MORE_SEEDS} if seeds else {}
    return more, of_confirmed(verdicts, control)


def confirming_on(again: optuna.Study, url: str, **options: object) -> str:
    """Return the command that continues a confirmation, with other values of some options."""
    made = shlex.split(again.user_attrs.get(COMMAND, ""))[3:]  # without python -m study.confirm
    search = kept(again, IDENTITY)["space_definition"]["search"]
    return command_line("study.confirm", replaced(made, study=search, **options), hidden(url))


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


def of_confirmed(verdicts: Mapping[str, Verdict], control: str) -> str:
    """Return what `study.export` exports of a confirmation with these verdicts."""
    told = known(verdicts)
    better = {label: each for label, each in told.items() if each.word == "better"}
    if better:
        return f"the settings of {highest(better)}, confirmed"
    if told and all(each.word == "worse" for each in told.values()):
        return f"the best settings: {control}"
    return UNCONFIRMED
