"""The commands to run next, and what each is for."""

import math
import shlex
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import optuna

from fer.command import given, quoted
from study.analysis.answer import Answer
from study.analysis.tables import own_console
from study.options import Images, is_default
from study.spec.faces import is_of_faces, removed
from study.spec.identity import IDENTITY
from study.storage import opening
from study.storage.records import kept
from study.storage.studies import COMMAND


def after_search(
    name: str,
    url: str,
    images: Mapping[str, Any],
    pipeline: str | None,
    answer: Answer,
    again: optuna.Study | None,
) -> dict[str, str]:
    """Return the commands to run after a search, each with its purpose.

    `again` is its confirmation, if there is one: an open one is continued with more seeds, and the
    settings of a real winner are exported.
    """
    steps = {}
    for line, why in after_study(name, url, images, pipeline).items():
        if "study.confirm" in line and again is not None:
            if answer.confirmed or answer.is_worse:
                continue
            if answer.confirmed is not None:
                seeds = kept(again, IDENTITY)["space_definition"]["seeds"]
                line, why = f"{line} --seeds {2 * seeds}", "is the best real, with more seeds?"
        if "study.export" in line and again is not None and answer.confirmed:
            line = line.replace(named(name, url), named(again.study_name, url))
            why = "the settings that were confirmed"
        steps[line] = why
    return steps


def after_study(
    name: str, url: str, images: Mapping[str, Any], pipeline: str | None
) -> dict[str, str]:
    """Return the commands to run after a study, each with its purpose.

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


def of_what(study: optuna.Study) -> tuple[dict[str, Any], str | None]:
    """Return the options for a study's data, and its pipeline if it is not FER-2013's."""
    identity, made = kept(study, IDENTITY), study.user_attrs.get(COMMAND, "")
    if not is_of_faces(identity):
        return {}, option_in(made, "pipeline") or "module:object"
    images = {
        "data": option_in(made, "data"),
        "split": identity["split"],
        "split_seed": identity.get("split_seed"),
        "holdout": identity.get("holdout"),
        "remove": removed(identity),
    }
    usual = Images.model_fields
    return {
        name: value
        for name, value in images.items()
        if value and not (name in usual and value == usual[name].default)
    }, None


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


def dashboard_command(url: str) -> str:
    """Return the command that starts the dashboard, preceded by its installation if needed."""
    pictures = given("artifact-dir", opening.artifacts_beside(url))
    needed = "" if find_spec("optuna_dashboard") else "pip install optuna-dashboard && "
    return f"{needed}optuna-dashboard {quoted(opening.hidden(url))} {pictures}"


def option_in(command: str, name: str) -> str | None:
    """Return the value of an option in a study's stored command, or None."""
    words = shlex.split(command)
    for word, following in pairwise([*words, ""]):
        if word == f"--{name}":
            return following
        if word.startswith(f"--{name}="):
            return word.partition("=")[2]
    return None


def say_next(steps: Mapping[str, str]) -> None:
    """Print commands with their purpose, beside the command if it fits, above it otherwise."""
    width = own_console().width if sys.stdout and sys.stdout.isatty() else math.inf
    print("\nnext:")
    for line, why in steps.items():
        beside = len(line) + len(why) + 6 <= width
        print(f"  {line}  # {why}" if beside else f"  # {why}\n  {line}")


def _words(options: Mapping[str, Any]) -> list[str]:
    return [
        given(name.replace("_", "-"), *(value if isinstance(value, tuple) else [value]))
        for name, value in options.items()
    ]
