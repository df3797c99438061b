"""What a study's numbers depend on. Trials of two identities are never mixed."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from fer.errors import UserError
from fer.strict_json import to_json
from study.pipeline import Pipeline
from study.spec.code import code_of
from study.spec.score import SCORED
from study.spec.space import describe
from study.spec.spec import BUDGET, Kind, Spec

IDENTITY = "identity"
"""The system attribute of a study that holds it; see `study.storage.records.kept`."""
FORMAT = 4  # of what is stored with a study; raise it when an older program could misread it

HARDWARE = ("device", "kernels")
"""What a study may go on with another of: it computes the same but for the last bits. A trial that
is not trained on that of its study says so."""
# A study that differs in these alone has the same question asked of another installation.
INSTALLATION = ("format", "code", "versions", "precision", *HARDWARE)
# Trials of studies that differ in these alone have the same curve if their settings are the same.
QUESTION = (
    "kind",
    "space",
    "space_definition",
    "base",
    "seed",
    "sampler",
    "pruner",
    "begins_with",
)
# How settings are proposed and stopped: another one may go on with a study if a person says so.
SEARCH = ("sampler", "pruner")

Identity = dict[str, Any]


def identity_of(
    pipeline: Pipeline, spec: Spec, sampler: Mapping[str, Any], pruner: Mapping[str, Any]
) -> Identity:
    """The identity of a study: what it asks, how it searches, and what the pipeline depends on.

    Raises TypeError if the pipeline's own part has a name that is the study's, or versions that
    are no dictionary.
    """
    study = {
        "format": FORMAT,
        "kind": spec.kind,
        "space": spec.name,
        "space_definition": definition_of(spec),
        "base": {key: value for key, value in spec.base.items() if key not in BUDGET},
        "epochs": spec.epochs,
        "seed": spec.seed,
        "begins_with": [] if spec.variants else list(spec.queue),
        "metric": pipeline.metric,
        "scored_epochs": SCORED,
        "sampler": dict(sampler),
        "pruner": dict(pruner),
    }
    own = own_identity(pipeline)
    if shared := own.keys() & study.keys():
        raise TypeError(f"the identity of a pipeline must not have {', '.join(sorted(shared))}")
    if not isinstance(own.get("versions", {}), Mapping):
        raise TypeError("the versions of a pipeline's identity must be a dictionary by package")
    # As JSON has it: tuples are lists, whatever the pipeline says.
    identity: Identity = json.loads(to_json({**study, **own}))
    return identity


def own_identity(pipeline: Pipeline) -> dict[str, Any]:
    """What a pipeline says that its numbers depend on, and its code."""
    own = dict(pipeline.identity())
    return own if "code" in own else {**own, **code_of(pipeline)}


def definition_of(spec: Spec) -> dict[str, Any]:
    """What is varied, in plain types."""
    if not spec.variants:
        return describe(spec.space)
    return {"variants": spec.variants, "seeds": spec.seeds, **spec.about}


def study_name(name: str, spec: Spec, identity: Identity) -> str:
    """A name that differs where identities differ; `name` begins it."""
    about = f"-{spec.name}" if spec.variants else ""
    asked = {key: each for key, each in identity.items() if key not in HARDWARE}
    return f"{name}{about}-{digest(asked)[:6]}"


def digest(*content: Any) -> str:
    """SHA-256 (hexadecimal) of plain types."""
    return hashlib.sha256(to_json(content, sort_keys=True).encode()).hexdigest()


def conditions_of(identity: Identity) -> str:
    """All that the numbers of a study's trials depend on beside their settings and the hardware,
    as one word."""
    ignored = (*QUESTION, *HARDWARE)
    return digest({key: each for key, each in identity.items() if key not in ignored})


def hardware_of(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an identity that may change within a study."""
    return {key: identity[key] for key in HARDWARE if key in identity}


def installed_of(identity: Mapping[str, Any]) -> dict[str, str]:
    """The code and the versions of packages in an identity, by name."""
    code = {"the pipeline's code": identity["code"]} if "code" in identity else {}
    return {**code, **identity.get("versions", {})}


def trial_key(conditions: str, settings: Mapping[str, Any]) -> str:
    """What the numbers of a trial depend on, as one word: begins the name of its checkpoint."""
    return digest(conditions, settings)


def kind_of(stored: Any) -> Kind | None:
    """What a study is for; None if this program did not begin it, or a version with more kinds.

    Studies of format 2 and before did not store it.
    """
    if not isinstance(stored, dict):
        return None
    if "kind" in stored:
        return Kind(stored["kind"]) if stored["kind"] in set(Kind) else None
    definition = stored.get("space_definition", {})
    variants = definition.get("variants")
    if variants is None:
        return Kind.SEARCH
    if "search" in definition:
        return Kind.CONFIRM
    if len(variants) > 1:
        return Kind.COMPARE
    return Kind.REMOVED if str(stored.get("space")).startswith("without-") else Kind.SEEDS


def is_search(stored: Any) -> bool:
    """Whether a study searched, and did not compare what it was given."""
    return kind_of(stored) == Kind.SEARCH


def check(name: str, stored: Any, identity: Identity, change_search: bool = False) -> None:
    """Raise UserError, naming what differs, if a study was begun with another identity.

    Its hardware may differ, and with `change_search` its sampler and pruner.
    """
    if stored is None:
        raise UserError(f"study {name!r} was not begun by study.run; choose another --study")
    check_format(name, stored)
    allowed = (*HARDWARE, *(SEARCH if change_search else ()))
    different = differences(stored, identity, allowed)
    if different:
        only_search = all(words.startswith(SEARCH) for words in different)
        hint = "choose another --study or the settings it was begun with"
        if only_search:
            hint = (
                "choose another --study, give the sampler and pruner it has now, or change them "
                "with --study and --change-search"
            )
        raise UserError(f"study {name!r} cannot be continued: {'; '.join(different)}; {hint}")


def check_format(name: str, stored: Identity) -> None:
    """Raise UserError if a newer version of this program wrote the study."""
    if stored.get("format", 1) > FORMAT:
        raise UserError(
            f"study {name!r} was written by a newer version of this program (format "
            f"{stored['format']}, this one knows {FORMAT}); update it"
        )


def check_data(name: str, stored: Identity, now: Mapping[str, Any]) -> None:
    """Raise UserError if a study is of another pipeline, or of other data, than one whose own
    identity is `now`. Installation and subset may differ."""
    now = json.loads(to_json(now))
    if stored.get("data_sha256") != now.get("data_sha256"):
        theirs, ours = (
            f"{each.get('data')} ({str(each.get('data_sha256'))[:12]})" for each in (stored, now)
        )
        raise UserError(
            f"other data: study {name!r} is of {theirs}, this is {ours}; name its data with "
            "--data, or its pipeline with --pipeline"
        )
    compared = [key for key in now if key not in (*INSTALLATION, "subset")]
    if different := [key for key in compared if stored.get(key) != now[key]]:
        raise UserError(
            f"study {name!r} is of another pipeline or other data: {', '.join(different)} differ"
        )


def differences(
    stored: Identity, identity: Mapping[str, Any], ignored: tuple[str, ...] = ()
) -> list[str]:
    """What differs, in words. What an older version did not store yet is said so."""
    old, new = _flat(stored), _flat(identity)
    ignored = (*ignored, "format")
    missing = [key for key in new if key not in old and key not in ignored]
    words = [
        f"{key} was {_short(old[key])}, now {_short(new.get(key))}"
        for key in old
        if old[key] != new.get(key) and key not in ignored
    ]
    if missing:
        words.append(f"an older version of this program began it and kept no {', '.join(missing)}")
    return words


def same_question(stored: Any, identity: Identity) -> bool:
    """Whether two identities differ in the installation alone."""
    return _same_but_for(INSTALLATION, stored, identity)


def same_conditions(stored: Any, identity: Identity) -> bool:
    """Whether two identities differ in what was asked alone."""
    return _same_but_for(QUESTION, stored, identity)


def same_budget(stored: Any, identity: Identity) -> bool:
    """Whether two identities differ in what was asked and in the installation alone: their trials
    have the same data, subset and epochs."""
    return _same_but_for((*QUESTION, *INSTALLATION), stored, identity)


def _same_but_for(ignored: tuple[str, ...], stored: Any, identity: Identity) -> bool:
    if not isinstance(stored, dict):
        return False
    # Of both: one may lack what the other has, such as images that are held out.
    keys = (stored.keys() | identity.keys()) - {*ignored}
    return all(stored.get(key) == identity.get(key) for key in keys)


def _flat(identity: Mapping[str, Any]) -> Identity:
    """With what is inside `base` and `versions` by its own name."""
    parts: list[Identity] = [identity.get(name, {}) for name in ("base", "versions")]
    rest = {key: value for key, value in identity.items() if key not in ("base", "versions")}
    return parts[0] | rest | parts[1]


def in_words(algorithm: Mapping[str, Any]) -> str:
    """A sampler or a pruner with its settings."""
    settings = [f"{key} {value}" for key, value in algorithm.items() if key != "name"]
    return f"{algorithm['name']} ({', '.join(settings)})" if settings else str(algorithm["name"])


def hardware_in_words(hardware: Mapping[str, Any]) -> str:
    """Such as "cpu AVX2, compiled 0123456789abcdef"."""
    return ", ".join(map(str, hardware.values()))


def _short(value: Any) -> str:
    if isinstance(value, dict) and "name" in value:
        return in_words(value)
    text = to_json(value)
    return text if len(text) <= 60 else text[:57] + "..."
