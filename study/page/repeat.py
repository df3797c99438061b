"""How to reproduce a study, and everything its numbers depend on."""

import re
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, json_to_distribution

from fer.command import given
from fer.strict_json import to_json
from study.analysis.commands import named, option_in
from study.page.markup import (
    Html,
    command,
    facts,
    folded,
    items,
    section,
    shown,
    tagged,
)
from study.spec.identity import Identity, in_words
from study.spec.misfit import in_words as range_in_words
from study.storage.records import kept
from study.storage.studies import COMMAND, COMMIT, SEARCH_CHANGES


def repeat_section(
    study: optuna.Study, identity: Identity, url: str, trial: int, verb: str = "the best trial"
) -> Html:
    """Return the steps to the same numbers: code, packages, data, the study, and one trial."""
    made = study.user_attrs.get(COMMAND, "")
    versions = identity.get("versions", {})
    packages = " ".join(f"{name}=={version}" for name, version in versions.items())
    steps = [code_step(shortened(identity.get("code", "")), kept(study, COMMIT, ""))]
    if packages:
        steps.append(Html("Install the same packages." + command(f"pip install {packages}")))
    if "data_sha256" in identity:
        data = shortened(identity["data_sha256"])
        steps.append(
            Html(
                f"Use the same data: {tagged('span', identity['data'])}, sha256 "
                + tagged("code", data)
                + "; other data is rejected."
            )
        )
    if made:
        steps.append(Html("Run the study, on the same kind of device." + command(made)))
    options = {name: option_in(made, name) for name in ("pipeline", "data")}
    more = (
        given(name, value)
        for name, value in {"trial": trial, **options}.items()
        if value is not None
    )
    replay = f"python -m study.replay {named(study.study_name, url)} {' '.join(more)}"
    steps.append(Html(f"Retrain only {verb} and compare it bit for bit." + command(replay)))
    page = f"python -m study.report {named(study.study_name, url)}"
    steps.append(Html("Rewrite this page." + command(page)))
    return section("How to reproduce it", items(steps, "ol"))


def code_step(code: str, commit: str) -> Html:
    """Return the step to the training code with the hash `code`."""
    if not commit:
        known = f", its hash is {code}" if code else ""
        return Html(f"Use the version of the training code that started the study{known}.")
    at, *changed = commit.split(maxsplit=1)
    return Html(
        "Check out the training code"
        + (f", which had {changed[0].removeprefix('with ')}" if changed else "")
        + "."
        + command(f"git checkout {at}")
    )


def shortened(text: Any) -> str:
    """Return text with long hashes shortened."""
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{8,}\b", r"\1…", str(text))


def provenance(study: optuna.Study, identity: Identity) -> Html:
    """Return everything a study's numbers depend on, collapsed."""
    rows: dict[str, Any] = {"study": study.study_name, "kind": identity.get("kind")}
    for key, value in identity.items():
        if key in ("kind", "space_definition", "base"):
            continue
        rows[key.replace("_", " ")] = fact(value)
    for change in kept(study, SEARCH_CHANGES, []):
        words = (f"{key} {fact(change[key])}" for key in ("sampler", "pruner") if key in change)
        rows[f"since trial {change['from_trial']}"] = ", ".join(words)
    definition = identity["space_definition"]
    space = definition_in_words(definition)
    base = identity.get("base", definition.get("base", {}))
    varied = settings_varied(definition)
    fixed = {key: shown(value) for key, value in base.items() if key not in varied}
    return folded(
        "Everything these numbers depend on",
        facts(rows),
        tagged("h3", "Varied"),
        facts(space),
        *([tagged("h3", "Fixed"), facts(fixed)] if fixed else []),
    )


def settings_varied(definition: Mapping[str, Any]) -> set[str]:
    """Return the settings that a stored space or comparison varies."""
    if "variants" in definition:
        return {name for changes in definition["variants"].values() for name in changes}
    return {each.get("only", {}).get("setting", name) for name, each in definition.items()}


def fact(value: Any) -> str:
    """Format a fact for readers."""
    if isinstance(value, Mapping) and "name" in value:
        return in_words(value)
    if isinstance(value, list) and not value:
        return "nothing"
    return "not set" if value is None else shown(value)


def definition_in_words(definition: Mapping[str, Any]) -> dict[str, str]:
    """Return the range of each parameter of a search, or the settings of each value of a
    comparison."""
    if "variants" in definition:
        return {
            label: shown(changes) or "the settings below"
            for label, changes in definition["variants"].items()
        }
    found = {}
    for name, described in definition.items():
        plain = {key: described[key] for key in ("name", "attributes")}
        within = json_to_distribution(to_json(plain))
        words = range_in_words(within)
        if not isinstance(within, CategoricalDistribution) and getattr(within, "log", False):
            words += ", on a log scale"
        if only := described.get("only"):
            words += f"; sets {only['setting']} if {only['of']} is {shown(only['value'])}"
        found[name] = words
    return found
