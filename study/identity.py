"""What a study's numbers depend on. Trials of two identities are never mixed."""

import hashlib
import json
from typing import Any

import torch

from fer import provenance
from fer.config import Config
from fer.data import Dataset
from fer.errors import UserError
from fer.network.kernels import kernels_for
from study.question import Question

IDENTITY = "identity"
"""The study attribute that holds it."""
FORMAT = 2  # of what is stored with a study; raise it when an older program could misread it

# A study that differs in these alone has the same question asked of another installation.
INSTALLATION = ("format", "code", "versions", "device", "precision", "kernels")
# Trials of studies that differ in these alone have the same curve if their settings are the same.
QUESTION = ("space", "space_definition", "seed")

Identity = dict[str, Any]


def identity_of(
    dataset: Dataset,
    split: str,
    subset: int | None,
    question: Question,
    base: Config,
    device: torch.device,
) -> Identity:
    """The identity of a study of `dataset` whose trials are `base` with what is asked varied."""
    return {
        "format": FORMAT,
        "data": dataset.name,
        "data_sha256": dataset.sha256,
        "classes": list(dataset.classes),
        "split": split,
        "subset": subset,
        "space": question.name,
        "space_definition": question.definition,
        "epochs": base.epochs,
        "seed": base.seed,
        "precision": base.precision,
        "kernels": kernels_for(device).name,
        "device": provenance.device_name(device),
        "code": provenance.code_version(device),
        "versions": provenance.versions(),
    }


def study_name(identity: Identity) -> str:
    """A name that differs where identities differ."""
    about = f"-{identity['space']}" if "variants" in identity["space_definition"] else ""
    return f"{identity['data']}{about}-{digest(identity)[:6]}"


def digest(*content: Any) -> str:
    """SHA-256 (hexadecimal) of plain types."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def is_search(stored: Any) -> bool:
    """Whether a study searched, and did not compare what it was given."""
    return isinstance(stored, dict) and "variants" not in stored.get("space_definition", {})


def check(name: str, stored: Any, identity: Identity) -> None:
    """Raise UserError, naming what differs, if a study was begun with another identity."""
    if stored is None:
        raise UserError(f"study {name!r} was not begun by study.run; choose another --study")
    check_format(name, stored)
    different = differences(stored, identity)
    if different:
        raise UserError(
            f"study {name!r} cannot be continued: {'; '.join(different)}; "
            "choose another --study or the settings it was begun with"
        )


def check_format(name: str, stored: Identity) -> None:
    """Raise UserError if a newer version of this program wrote the study."""
    if stored.get("format", 1) > FORMAT:
        raise UserError(
            f"study {name!r} was written by a newer version of this program (format "
            f"{stored['format']}, this one knows {FORMAT}); update it"
        )


def check_data(name: str, stored: Identity, dataset: Dataset) -> None:
    """Raise UserError if a study is of other images."""
    if dataset.sha256 != stored["data_sha256"]:
        raise UserError(
            f"other data: study {name!r} is of {stored['data']} ({stored['data_sha256'][:12]}), "
            f"this is {dataset.name} ({dataset.sha256[:12]}); name its images with --data"
        )


def differences(stored: Identity, identity: Identity) -> list[str]:
    """What differs, in words. What an older version did not store yet is said so."""
    old, new = _flat(stored), _flat(identity)
    missing = [key for key in new if key not in old and key != "format"]
    words = [
        f"{key} was {_short(old[key])}, now {_short(new.get(key))}"
        for key in old
        if old[key] != new.get(key) and key != "format"
    ]
    if missing:
        words.append(f"an older version of this program began it and kept no {', '.join(missing)}")
    return words


def same_question(stored: Any, identity: Identity) -> bool:
    """Whether two identities differ in the installation alone."""
    return isinstance(stored, dict) and all(
        stored.get(key) == value for key, value in identity.items() if key not in INSTALLATION
    )


def same_conditions(stored: Any, identity: Identity) -> bool:
    """Whether two identities differ in what was asked alone."""
    return isinstance(stored, dict) and all(
        stored.get(key) == value for key, value in identity.items() if key not in QUESTION
    )


def _flat(identity: Identity) -> Identity:
    versions: Identity = identity.get("versions", {})
    return {key: value for key, value in identity.items() if key != "versions"} | versions


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
