"""Pictures of a study and its trials, stored as Optuna artifacts next to the database."""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from optuna.trial import FrozenTrial

from fer.errors import UserError
from fer.files import write_file
from fer.strict_json import to_json
from study.storage.records import Result

PREFIX = "artifacts:"
"""Prefix of an artifact's system attribute (see `optuna.artifacts.upload_artifact`), followed by
its id, which is also its file name."""


@dataclass(frozen=True)
class Shown:
    """What a dashboard shows of a trial: a Markdown note, and SVG pictures by file name."""

    note: str
    pictures: Mapping[str, str] = field(default_factory=dict)


Show = Callable[[FrozenTrial, Result], Shown | None]
"""Returns what to show of a trial about to complete with this result, or None for nothing."""


def put(folder: Path, pictures: Mapping[str, str], known: Mapping[str, str]) -> dict[str, str]:
    """Write pictures like Optuna's FileSystemArtifactStore; return their system attributes.

    Pictures whose file name is in `known` (ids by file name) are replaced. Those that cannot be
    written are skipped.
    """
    attributes = {}
    for name, picture in pictures.items():
        identifier = known.get(name) or str(uuid4())
        with suppress(OSError, UserError):  # a missing picture must not stop a study
            folder.mkdir(parents=True, exist_ok=True)
            write_file(folder / identifier, picture)
            meta = {
                "artifact_id": identifier,
                "filename": name,
                "mimetype": "image/svg+xml",
                "encoding": None,
            }
            attributes[f"{PREFIX}{identifier}"] = to_json(meta)
    return attributes


def ids_in(system: Mapping[str, Any]) -> dict[str, str]:
    """Return artifact ids by file name, from the system attributes of a study or trial."""
    found = {}
    for key, value in system.items():
        # Validate: a key from a database could be a path out of the folder.
        if re.fullmatch(f"{PREFIX}[0-9a-f-]+", key):
            with suppress(TypeError, ValueError, KeyError):  # null: removed in the dashboard
                meta = json.loads(value)
                found[str(meta["filename"])] = key.removeprefix(PREFIX)
    return found


def copy_artifacts(source: Path, target: Path) -> int:
    """Copy the artifacts of a database to those of its copy; return the number of files."""
    if not source.is_dir():
        return 0
    shutil.copytree(source, target, dirs_exist_ok=True)
    return sum(file.is_file() for file in source.iterdir())
