"""Pictures of a study and its trials, in files beside the database, as Optuna's artifacts."""

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
"""Begins the system attribute of an artifact, see `optuna.artifacts.upload_artifact`; its id, the
name of its file, follows."""


@dataclass(frozen=True)
class Shown:
    """What a dashboard shows of a trial: a note in Markdown, pictures (SVG) by file name."""

    note: str
    pictures: Mapping[str, str] = field(default_factory=dict)


Show = Callable[[FrozenTrial, Result], Shown | None]
"""What is to be shown of a trial that is about to complete with that result; None for nothing."""


def put(folder: Path, pictures: Mapping[str, str], known: Mapping[str, str]) -> dict[str, str]:
    """Write pictures, by file name, as Optuna's FileSystemArtifactStore would; the system
    attributes that name them.

    `known` has ids by file name: such a picture is replaced. What can't be written is left out.
    """
    attributes = {}
    for name, picture in pictures.items():
        identifier = known.get(name) or str(uuid4())
        with suppress(OSError, UserError):  # no study ends for want of a picture
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
    """The ids of artifacts by file name, among the system attributes of a study or a trial."""
    found = {}
    for key, value in system.items():
        # A name from a database is no path: it may lead out of the folder.
        if re.fullmatch(f"{PREFIX}[0-9a-f-]+", key):
            with suppress(TypeError, ValueError, KeyError):  # the dashboard's null: it was removed
                meta = json.loads(value)
                found[str(meta["filename"])] = key.removeprefix(PREFIX)
    return found


def copy_artifacts(source: Path, target: Path) -> int:
    """Copy the artifacts of a database to those of its copy; how many files there were."""
    if not source.is_dir():
        return 0
    shutil.copytree(source, target, dirs_exist_ok=True)
    return sum(file.is_file() for file in source.iterdir())
