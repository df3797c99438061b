"""Interpret file names of a data set: the split of each file, and missing shards.

Examples: `train.csv` and `test.csv`; `train-00000-of-00003.parquet` (Hugging Face);
`0000.parquet` in a folder named after its split.
"""

import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from fer.data.names import MAX_NAMED, listed, near_usage, usage_of
from fer.errors import UserError

_OF = re.compile(
    r"(?P<stem>.*?)[-_. ]?(?P<number>\d{1,9})[-_]of[-_](?P<total>\d{1,9})(?P<tail>[-_.]\w+)?", re.I
)
_NUMBERED = re.compile(r"(?P<stem>.*[-_. ]|part|)(?P<number>\d{1,5})(?P<total>)(?P<tail>)", re.I)
_NAMELESS = ("", "part", "data", "shard")


class Part(NamedTuple):
    """Parts of a file name: split, stem, shard number, and total number of shards."""

    usage: str | None
    stem: str
    number: int | None
    total: int | None  # None if not in the name


def part_of(path: Path, in_split: bool = False) -> Part:
    """Parse a file name.

    The folder's name gives the split if the file's name is only a number, or with `in_split`.
    """
    match = _OF.fullmatch(path.stem) or _NUMBERED.fullmatch(path.stem)
    stem = (match["stem"] if match else path.stem).strip("-_. ").lower()
    usage = usage_of(stem)
    if usage is None and (in_split or (match is not None and stem in _NAMELESS)):
        usage = usage_of(path.parent.name)
    if match is None:
        return Part(usage, stem, None, None)
    return Part(usage, stem, int(match["number"]), int(match["total"]) if match["total"] else None)


def together(
    files: Sequence[Path], place: Path, in_splits: bool = False
) -> list[tuple[Path, str | None]]:
    """Order the files (shards of one or more splits), each with the usage from its name.

    With `in_splits` their folders are named after splits. Raises UserError if a shard is missing
    or it is unclear which files belong to the data set.
    """
    parts = {file: part_of(file, in_splits) for file in files}
    sets: dict[tuple[object, ...], list[Path]] = {}
    for file, part in parts.items():
        is_shard = part.number is not None
        key = (part.usage, file.parent, part.stem, file.suffix.lower(), part.total, is_shard)
        sets.setdefault(key if is_shard else (*key, file), []).append(file)
    unknown = [file for file in files if parts[file].usage is None]
    if unknown and len(sets) > 1:
        names = listed(file.name + near_usage(parts[file].stem) for file in unknown)
        raise UserError(
            f"{len(files)} tables, give one of them, or name them after their splits (train, "
            f"validation, test); unknown are {names}: {place}"
        )
    for usage in {parts[file].usage for file in files}:
        same = [each[0].name for key, each in sets.items() if key[0] == usage]
        if len(same) > 1:
            raise UserError(f"{listed(same)} are all {usage}, give one of them: {place}")
    for each in sets.values():
        _check_whole({parts[file].number: parts[file] for file in each}, each)
    return [
        (file, parts[file].usage)
        for each in sets.values()
        for file in sorted(each, key=lambda file: parts[file].number or 0)
    ]


def _check_whole(parts: dict[int | None, Part], files: list[Path]) -> None:
    """Raise UserError if a shard is missing or duplicated.

    Without a total in the names, the lowest and highest present are taken as first and last.
    """
    file = files[0]
    if len(parts) < len(files):
        names = listed(each.name for each in files)
        raise UserError(f"a shard appears twice, give one file: {names} in {file.parent}")
    numbers = {number for number in parts if number is not None}
    if not numbers:
        return
    total = next(iter(parts.values())).total
    first, last = min(numbers), max(numbers) + 1
    if total is not None:
        first = 1 if 0 not in numbers and total in numbers else 0
        last = first + total
    gaps = (number for number in range(first, last) if number not in numbers)
    some = list(islice(gaps, MAX_NAMED))
    if not some:
        return
    missing = last - first - len(numbers.intersection(range(first, last)))
    names = ", ".join(_renumbered(file.name, number) for number in some)
    more = f" and {missing - len(some):,} more" if missing > len(some) else ""
    raise UserError(
        f"{missing:,} of {last - first:,} shards are missing: {names}{more}; found {file} "
        "(all shards of a folder are read)"
    )


def _renumbered(name: str, number: int) -> str:
    """Return the name of another shard; a hash after the total is replaced by a wildcard."""
    stem, dot, suffix = name.rpartition(".")
    match = _OF.fullmatch(stem) or _NUMBERED.fullmatch(stem)
    assert match is not None
    digits = f"{number:0{len(match['number'])}}"
    tail = "-*" if match["tail"] else ""
    renamed = stem[: match.start("number")] + digits + stem[match.end("number") :]
    return renamed[: len(renamed) - len(match["tail"] or "")] + tail + dot + suffix
