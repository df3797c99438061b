"""Summary of a search: how its trials ended, the best next to the control, next commands."""

import math
import shlex
import sys
from collections import Counter
from collections.abc import Mapping
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.table import Table

from fer.command import given, quoted
from fer.output import say
from study.analysis import overtuning
from study.analysis.answer import Answer
from study.analysis.tables import own_console
from study.analysis.worth import more_trials
from study.options import is_default
from study.spec.identity import IDENTITY
from study.storage import opening
from study.storage.records import ORIGIN, Result, ending, kept, result_of, scored, settings_of
from study.words import counted


def count_endings(trials: list[FrozenTrial]) -> str:
    """Count the trials by how they ended, in words."""
    counts = Counter(map(ending, trials))
    words = [f"{counted(counts['complete'], 'trial')} complete, {counts['pruned']} pruned"]
    for kind in (
        "diverged",
        "out of memory",
        "out of the race",
        "failed",
        "running",
        "interrupted",
    ):
        if counts[kind]:
            words.append(f"{counts[kind]} {kind}")
    if counts["waiting"]:  # a study queues its initial settings all at once
        words.append(f"{counts['waiting']} queued")
    results = [result_of(trial) for trial in trials]
    repeats = sum(result is not None and result.repeats is not None for result in results)
    if repeats:
        words.append(f"{repeats} of them reused from trials with the same settings")
    if counts["failed"]:
        words.append("failed ones do not count")
    return ", ".join(words)


def complete_of(study: optuna.Study) -> list[tuple[FrozenTrial, Result]]:
    """Return the complete trials with a result, best first."""
    complete = [each for each in scored(study) if each[0].state == TrialState.COMPLETE]
    return sorted(complete, key=lambda each: -(each[1].score or 0.0))


def summary(study: optuna.Study, control: str, answer: Answer) -> None:
    """Print the best trial next to the `control`, the verdict, and the expected gain of more
    trials."""
    print()
    say(count_endings(study.get_trials(deepcopy=False)))
    complete = complete_of(study)
    if not complete:
        say("no trial is complete yet, so there is no best one")
        return
    best, best_result = complete[0]
    columns = {f"best: trial {best.number}": complete[0]}
    for trial, result in complete:
        if control and trial.user_attrs.get(ORIGIN) == control:
            columns.setdefault(f"{control}: trial {trial.number}", (trial, result))
    table = Table("", *columns, header_style="bold")
    results = [result for _, result in columns.values()]
    metric = kept(study, IDENTITY).get("metric", "score")
    table.add_row(metric, *(f"{result.score:.4f}" for result in results))
    for name in best_result.values:
        table.add_row(name, *(_shown(result.values.get(name)) for result in results))
    table.add_row(
        "best epoch",
        *(f"{_shown(each.best)} (epoch {each.epoch} of {each.epochs})" for each in results),
        end_section=True,
    )
    settings = [settings_of(trial) for trial, _ in columns.values()]
    for name in setting_names(best, settings):
        table.add_row(name, *(_shown(each.get(name)) for each in settings))
    own_console().print(table)
    said = (answer.words, overtuning.in_words(study), more_trials(study))
    for line in filter(None, said):
        say(line)


def setting_names(trial: FrozenTrial, settings: list[dict[str, Any]]) -> list[str]:
    """Return the names of the settings that the study varies, then of others that differ."""
    varied = [name for name in settings[0] if name in trial.params]
    given = [name for name in settings[0] if any(key.endswith(f"_{name}") for key in trial.params)]
    differing = [
        name for name in settings[0] if len({str(each.get(name)) for each in settings}) > 1
    ]
    return list(dict.fromkeys((*varied, *given, *differing)))


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "-" if value is None else str(value)


def option_in(command: str, name: str) -> str | None:
    """Return the value of an option in a study's stored command, or None."""
    words = shlex.split(command)
    for word, following in pairwise([*words, ""]):
        if word == f"--{name}":
            return following
        if word.startswith(f"--{name}="):
            return word.partition("=")[2]
    return None


def confirm_command(
    name: str, url: str, pipeline: str | None, data: Path | str | None = None
) -> str:
    """Return the command that retrains the best settings of study `name` in database `url`."""
    images = {key: each for key, each in (("pipeline", pipeline), ("data", data)) if each}
    return " ".join(["python -m study.confirm", named(name, url), *_words(images)])


def named(name: str, url: str) -> str:
    """Return the options that select a study, without --storage for the default database."""
    where = "" if is_default(url) else f" {given('storage', opening.hidden(url))}"
    return f"{given('study', name)}{where}"


def next_commands(
    name: str, url: str, images: Mapping[str, Any], pipeline: str | None, answer: Answer
) -> None:
    """Print what to do after the search `name` in the database `url`.

    Its `answer` may be that of a confirmation, which need not be repeated.
    """
    steps = next_steps(name, url, images, pipeline)
    if answer.confirmed is not None:
        steps = {line: why for line, why in steps.items() if "study.confirm" not in line}
    say_next(steps)


def say_next(steps: Mapping[str, str]) -> None:
    """Print commands with their purpose, beside the command if it fits, above it otherwise."""
    width = own_console().width if sys.stdout and sys.stdout.isatty() else math.inf
    print("\nnext:")
    for line, why in steps.items():
        beside = len(line) + len(why) + 6 <= width
        print(f"  {line}  # {why}" if beside else f"  # {why}\n  {line}")


def next_steps(
    name: str, url: str, images: Mapping[str, Any], pipeline: str | None
) -> dict[str, str]:
    """Return the commands to run after a search, each with its purpose.

    The first confirms the best settings, the last trains the final model. `images` are the
    non-default options that select the training data.
    """
    study = named(name, url)
    lines = {
        confirm_command(name, url, pipeline, images.get("data")): "is the best real?",
        f"python -m study.report {study}": "the whole study as a page",
        dashboard_command(url): "look at every trial",
        f"python -m study.export {study} --out best.yaml": "the best settings",
    }
    if pipeline is None:
        train = "python -m fer.train --config best.yaml --whole --out runs/final"
        lines[" ".join([train, *_words(images)])] = "the final model"
    return lines


def dashboard_command(url: str) -> str:
    """Return the command that starts the dashboard, preceded by its installation if needed."""
    pictures = given("artifact-dir", opening.artifacts_beside(url))
    needed = "" if find_spec("optuna_dashboard") else "pip install optuna-dashboard && "
    return f"{needed}optuna-dashboard {quoted(opening.hidden(url))} {pictures}"


def _words(options: Mapping[str, Any]) -> list[str]:
    return [
        given(name.replace("_", "-"), *(value if isinstance(value, tuple) else [value]))
        for name, value in options.items()
    ]
