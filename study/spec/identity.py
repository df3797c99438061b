"""What the results of a study depend on. Trials with different identities are never mixed."""

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
"""System attribute of a study that holds its identity; see `study.storage.records.kept`."""
FORMAT = 4  # of the stored data; increase it when an older program could misread it

HARDWARE = ("device", "kernels")
"""What may change within a study, because results agree up to rounding. It is recorded with
trials that were not trained on their study's hardware."""
# Studies that differ only in these ask the same question on different installations.
INSTALLATION = ("format", "code", "versions", "precision", *HARDWARE)
# In studies that differ only in these, trials with equal settings have equal learning curves.
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
OLDER = "it was started by an older version"
# How settings are proposed and trials pruned: the user may change it within a study.
SEARCH = ("sampler", "pruner")

Identity = dict[str, Any]


def identity_of(
    pipeline: Pipeline, spec: Spec, sampler: Mapping[str, Any], pruner: Mapping[str, Any]
) -> Identity:
    """Return the identity of a study: its spec, its search method, and the pipeline's identity.

    Raises TypeError if the pipeline's identity uses a reserved name, or its `versions` is not a
    dictionary.
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
        raise TypeError(f"a pipeline's identity must not contain {', '.join(sorted(shared))}")
    if not isinstance(own.get("versions", {}), Mapping):
        raise TypeError("versions in a pipeline's identity must be a dictionary by package")
    # Normalise to JSON, in which tuples are lists.
    identity: Identity = json.loads(to_json({**study, **own}))
    return identity


def own_identity(pipeline: Pipeline) -> dict[str, Any]:
    """Return the pipeline's own part of the identity, with its code."""
    own = dict(pipeline.identity())
    return own if "code" in own else {**own, **code_of(pipeline)}


def definition_of(spec: Spec) -> dict[str, Any]:
    """Return what is varied, in plain types."""
    if not spec.variants:
        return describe(spec.space)
    return {"variants": spec.variants, "seeds": spec.seeds, **spec.about}


def study_name(name: str, spec: Spec, identity: Identity) -> str:
    """Return a study name with the prefix `name`, unique to the identity."""
    about = f"-{spec.name}" if spec.variants else ""
    asked = {key: each for key, each in identity.items() if key not in HARDWARE}
    return f"{name}{about}-{digest(asked)[:6]}"


def digest(*content: Any) -> str:
    """Return the SHA-256 (hexadecimal) of plain types."""
    return hashlib.sha256(to_json(content, sort_keys=True).encode()).hexdigest()


def conditions_of(identity: Identity) -> str:
    """Return a digest of all that results depend on, apart from settings and hardware."""
    ignored = (*QUESTION, *HARDWARE)
    return digest({key: each for key, each in identity.items() if key not in ignored})


def hardware_of(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of an identity that may change within a study."""
    return {key: identity[key] for key in HARDWARE if key in identity}


def installed_of(identity: Mapping[str, Any]) -> dict[str, str]:
    """Return code and package versions of an identity, by name."""
    code = {"the pipeline's code": identity["code"]} if "code" in identity else {}
    return {**code, **identity.get("versions", {})}


def trial_key(conditions: str, settings: Mapping[str, Any]) -> str:
    """Return a digest of what a trial's results depend on, the stem of its checkpoint's name."""
    return digest(conditions, settings)


def kind_of(stored: Any) -> Kind | None:
    """Return the kind of a study; None if it was created by another program or is unknown.

    Formats up to 2 did not store it.
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
    """Whether a study is a search rather than a comparison."""
    return kind_of(stored) == Kind.SEARCH


def check(
    name: str, stored: Any, identity: Identity, change_search: bool = False, commit: str = ""
) -> None:
    """Raise UserError naming the differences if a study was started with another identity.

    The hardware may differ and, with `change_search`, the sampler and pruner. The
    `commit` of its training code is named if the code differs.
    """
    if stored is None:
        raise UserError(f"study {name!r} was not created by study.run; choose another --study")
    check_format(name, stored)
    allowed = (*HARDWARE, *(SEARCH if change_search else ()))
    different = differences(stored, identity, allowed)
    if stored.get("data") != identity.get("data"):  # much else differs as a consequence
        old = [words for words in different if words.startswith(OLDER)]
        line = f"{other_data(name, stored, identity)}, or choose another --study"
        raise UserError("; ".join([line, *old]))
    if different:
        only_search = all(words.startswith(SEARCH) for words in different)
        hint = "choose another --study or the settings it was started with"
        if commit and any(words.startswith("code ") for words in different):
            hint = f"choose another --study, or check out commit {commit}"
        if only_search:
            hint = (
                "choose another --study, use its current sampler and pruner, or change them "
                "with --study and --change-search"
            )
        raise UserError(f"study {name!r} cannot be continued: {'; '.join(different)}; {hint}")


def other_data(name: str, stored: Identity, now: Mapping[str, Any]) -> str:
    """Return a line that a study used other data, and how to give them."""
    theirs, ours = (
        f"{each.get('data')} ({str(each.get('data_sha256'))[:12]})" for each in (stored, now)
    )
    way = "give its data with --data, or its pipeline with --pipeline"
    if stored.get("data") == "demo":
        way = "leave out --data and FER_DATA for the demo faces"
    return f"other data: study {name!r} used {theirs}, this is {ours}; {way}"


def check_format(name: str, stored: Identity) -> None:
    """Raise UserError if a newer version of this program wrote the study."""
    if stored.get("format", 1) > FORMAT:
        raise UserError(
            f"study {name!r} was written by a newer version of this program (format "
            f"{stored['format']}, this one knows {FORMAT}); update it"
        )


def check_data(name: str, stored: Identity, now: Mapping[str, Any]) -> None:
    """Raise UserError if a study used another pipeline or other data than the identity `now`.

    Installation and subset may differ.
    """
    now = json.loads(to_json(now))
    if stored.get("data_sha256") != now.get("data_sha256"):
        raise UserError(other_data(name, stored, now))
    compared = [key for key in now if key not in (*INSTALLATION, "subset")]
    if different := [key for key in compared if stored.get(key) != now[key]]:
        raise UserError(
            f"study {name!r} used another pipeline or other data: {', '.join(different)} differ"
        )


def differences(
    stored: Identity, identity: Mapping[str, Any], ignored: tuple[str, ...] = ()
) -> list[str]:
    """Describe the differences, including what an older version did not store."""
    old, new = _flat(stored), _flat(identity)
    missing = [key for key in new if key not in old and key not in (*ignored, "format")]
    words = changes(stored, identity, ignored)
    if missing and stored.get("format", 1) < FORMAT:
        words.append(f"{OLDER} that did not store {', '.join(missing)}")
    else:
        words += [f"{key} was not set, now {_short(new[key])}" for key in missing]
    return words


def changes(
    stored: Identity, identity: Mapping[str, Any], ignored: tuple[str, ...] = ()
) -> list[str]:
    """Describe what differs from what is stored."""
    old, new = _flat(stored), _flat(identity)
    return [
        f"{key} was {_short(old[key])}, now {_short(new.get(key))}"
        for key in old
        if old[key] != new.get(key) and key not in (*ignored, "format")
    ]


def same_question(stored: Any, identity: Identity) -> bool:
    """Whether two identities differ only in the installation."""
    return _same_but_for(INSTALLATION, stored, identity)


def same_conditions(stored: Any, identity: Identity) -> bool:
    """Whether two identities differ only in the question."""
    return _same_but_for(QUESTION, stored, identity)


def same_budget(stored: Any, identity: Identity) -> bool:
    """Whether two identities differ only in question and installation.

    Their trials then have the same data, subset and epochs.
    """
    return _same_but_for((*QUESTION, *INSTALLATION), stored, identity)


def _same_but_for(ignored: tuple[str, ...], stored: Any, identity: Identity) -> bool:
    if not isinstance(stored, dict):
        return False
    # Keys of both: one may lack a key that the other has, such as the holdout.
    keys = (stored.keys() | identity.keys()) - {*ignored}
    return all(stored.get(key) == identity.get(key) for key in keys)


def _flat(identity: Mapping[str, Any]) -> Identity:
    """Flatten `base` and `versions` into the identity."""
    parts: list[Identity] = [identity.get(name, {}) for name in ("base", "versions")]
    rest = {key: value for key, value in identity.items() if key not in ("base", "versions")}
    return parts[0] | rest | parts[1]


def in_words(algorithm: Mapping[str, Any]) -> str:
    """Describe a sampler or pruner with its settings."""
    if algorithm["name"] == "none":
        return "none"
    settings = [
        f"{key.replace('_', ' ')} {', '.join(value) if isinstance(value, list) else value}"
        for key, value in algorithm.items()
        if key != "name"
    ]
    return f"{algorithm['name']} ({', '.join(settings)})" if settings else str(algorithm["name"])


def hardware_in_words(hardware: Mapping[str, Any]) -> str:
    """Describe hardware, such as "cpu AVX2, compiled 0123456789abcdef"."""
    return ", ".join(map(str, hardware.values()))


def _short(value: Any) -> str:
    if isinstance(value, dict) and "name" in value:
        return in_words(value)
    text = to_json(value)
    return text if len(text) <= 60 else text[:57] + "..."
