"""Commands about a study, ready to paste."""

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
from study.analysis.effects import split_by_seed
from study.analysis.tables import own_console
from study.options import Images, is_default
from study.spec.faces import is_of_faces, removed
from study.spec.identity import IDENTITY
from study.storage import opening
from study.storage.records import kept
from study.storage.studies import COMMAND


def of_what(study: optuna.Study) -> tuple[dict[str, Any], str | None]:
    """Return the options for a study's data, and its pipeline if it is not FER-2013's."""
    identity, made = kept(study, IDENTITY), study.user_attrs.get(COMMAND, "")
    if not is_of_faces(identity):
        return {}, option_in(made, "pipeline") or "module:object"
    images = {
        "data": option_in(made, "data"),
        "split": identity["split"],
        "split_seed": identity.get("holdout_seed" if split_by_seed(identity) else "split_seed"),
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


def report_command(name: str, url: str) -> str:
    """Return the command that writes a study as a page."""
    return f"python -m study.report {named(name, url)}"


def export_command(name: str, url: str) -> str:
    """Return the command that exports the best settings of a study."""
    return f"python -m study.export {named(name, url)} --out best.yaml"


def train_command(name: str, images: Mapping[str, Any]) -> str:
    """Return the command that trains the final model of study `name`; `images` are options of
    `of_what`."""
    out = given("out", f"runs/{name.replace('/', '-')}")
    return " ".join(["python -m fer.train --config best.yaml --whole", out, *_words(images)])


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
    if not steps:
        return
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
