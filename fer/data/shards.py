"""The files of one data set by their names: the split each is of, and whether a shard is missing.

`train.csv` and `test.csv`; `train-00000-of-00003.parquet` as Hugging Face exports it;
`0000.parquet` in a folder that is named after its split.
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
    """What a file's name says: the split it is of, and the number of the shard among how many."""

    usage: str | None
    stem: str
    number: int | None
    total: int | None  # None if the name does not say


def part_of(path: Path, in_split: bool = False) -> Part:
    """What the name of a file says, or that of its folder where the file has a number alone, or
    where it is known that the folder is that of a split."""
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
    """The files, shards of one or more splits, in order, each with the usage its name says; with
    `in_splits` their folders are those of splits.

    Raises UserError where a shard is missing, or where it is unclear which files are the data set.
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
            f"{len(files)} tables, name one of them, or name them after their splits (train, "
            f"validation, test); not known are {names}: {place}"
        )
    for usage in {parts[file].usage for file in files}:
        same = [each[0].name for key, each in sets.items() if key[0] == usage]
        if len(same) > 1:
            raise UserError(f"{listed(same)} are all of {usage}, name one of them: {place}")
    for each in sets.values():
        _check_whole({parts[file].number: parts[file] for file in each}, each)
    return [
        (file, parts[file].usage)
        for each in sets.values()
        for file in sorted(each, key=lambda file: parts[file].number or 0)
    ]


def _check_whole(parts: dict[int | None, Part], files: list[Path]) -> None:
    """Raises UserError if a shard is missing or there twice; where names tell no total, the first
    and the last that are there count as such."""
    file = files[0]
    if len(parts) < len(files):
        names = listed(each.name for each in files)
        raise UserError(f"a shard is there twice, name one file: {names} in {file.parent}")
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
        f"{missing:,} of {last - first:,} shards are missing: {names}{more}; there is {file} "
        "(of a folder all shards are read)"
    )


def _renumbered(name: str, number: int) -> str:
    """The name of another shard; a hash behind the total is not known."""
    stem, dot, suffix = name.rpartition(".")
    match = _OF.fullmatch(stem) or _NUMBERED.fullmatch(stem)
    assert match is not None
    digits = f"{number:0{len(match['number'])}}"
    tail = "-*" if match["tail"] else ""
    renamed = stem[: match.start("number")] + digits + stem[match.end("number") :]
    return renamed[: len(renamed) - len(match["tail"] or "")] + tail + dot + suffix
