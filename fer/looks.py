"""Count looks at test splits, in the run folder and in a ledger of all runs.

Each look, by any run, makes later scores a little less reliable. Run folders may be deleted, so
the ledger is kept in the cache folder.
"""

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fer.command import printable
from fer.errors import UserError
from fer.files import read_file
from fer.home import cache_folder
from fer.runs import WEIGHTS
from fer.strict_json import to_json

LOOKS = "looks.jsonl"  # in both folders: one JSON object per line
MAX_LOOKS = 16 << 20  # bytes, about fifty thousand looks


def check(run: Path) -> None:
    """Raise UserError if the run's record of looks is damaged, before another is taken."""
    _of_run(run)


def take(run: Path, usage: str, data_sha256: str, scores: Mapping[str, float]) -> tuple[int, int]:
    """Record a look at the test split `usage`; return its number over all runs and for this run.

    Raises UserError if the run's folder is not writable. If the ledger is not, prints a note and
    counts only the looks of this run.
    """
    look = {
        "time": datetime.now(UTC).isoformat(),
        "split": usage,
        "data_sha256": data_sha256,
        "run": str(run.resolve()),
        "weights_sha256": hashlib.sha256((run / WEIGHTS).read_bytes()).hexdigest(),
        **scores,
    }
    line = to_json(look).encode()
    try:
        _add(run / LOOKS, line)
    except OSError as error:
        raise UserError(f"cannot write {run / LOOKS}: {error.strerror}") from None
    same = {"split": usage, "data_sha256": data_sha256}
    # Looks recorded without a data hash count as this run's.
    own = {text for text, look in _of_run(run).items() if same.items() <= {**same, **look}.items()}
    ledger = cache_folder() / LOOKS
    try:
        ledger.parent.mkdir(parents=True, exist_ok=True)
        content = _add(ledger, line)
        others = {text: known for text in content if (known := _parsed(text)) is not None}
    except OSError as error:
        print(printable(f"note: looks by other runs are not counted: {ledger}: {error.strerror}"))
        others = {}
    counted = {text for text, look in others.items() if same.items() <= look.items()}
    # Include looks that came with a run copied from another machine.
    return len(own | counted), len(own)


def _add(path: Path, line: bytes) -> list[bytes]:
    """Append a line to a file, completely or not at all; return all its lines.

    The file is locked and appended to, because a rename could lose lines of other processes.
    """
    with path.open("a+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # so that each look gets a unique number
        file.seek(0)
        before = file.read()
        # The machine may have stopped in the middle of a line.
        added = (b"\n" if before and not before.endswith(b"\n") else b"") + line + b"\n"
        try:
            if file.write(added) != len(added):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            file.truncate(len(before))
            raise
    return (before + added).splitlines()


def _of_run(run: Path) -> dict[bytes, dict[str, Any]]:
    """Return the looks in a run's folder by line. Raise UserError if one is damaged."""
    file = run / LOOKS
    if file.is_symlink():
        raise UserError(f"not a regular file: {file}")
    if not file.exists():
        return {}
    looks = {}
    for number, text in enumerate(read_file(file, MAX_LOOKS).splitlines(), 1):
        look = _parsed(text)
        if look is None:
            raise UserError(f"not a record of a look: {file} line {number}")
        looks[text] = look
    return looks


def _parsed(text: bytes) -> dict[str, Any] | None:
    try:
        look = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return look if isinstance(look, dict) and "split" in look else None
