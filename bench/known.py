"""Generate fer/data/known.txt from editions of FER-2013: `python -m bench.known FILE...`.

For each file, takes the images of each emotion and usage with the smallest digests: a
reproducible sample.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from fer import command, data
from fer.config import EMOTIONS
from fer.data.faces import USAGES, image_digests
from fer.data.known import DIGITS, KNOWN
from fer.files import write_file

OF_EACH = {"Training": 50, "PublicTest": 30, "PrivateTest": 30}
"""Images per emotion and file."""


@dataclass(frozen=True)
class Options:
    """Sample known images of FER-2013, and write their digests into the package."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """FER-2013 with its original labels, in any supported form."""


def draw(files: Iterable[Path]) -> str:
    """Return a line per emotion: its name and digests of images without duplicates."""
    chosen: dict[str, set[str]] = {name: set() for name in EMOTIONS}
    for file in files:
        dataset = data.read(file)
        digests = image_digests(dataset.images)
        _, first, counts = np.unique(digests, return_index=True, return_counts=True)
        rows = first[counts == 1]  # sorted by digest
        for usage, count in OF_EACH.items():
            for label, name in enumerate(EMOTIONS):
                of_kind = dataset.labels[rows] == label
                of_kind &= dataset.usages[rows] == USAGES.index(usage)
                chosen[name] |= {
                    digest.decode()[:DIGITS] for digest in digests[rows[of_kind][:count]]
                }
    every = [digest for digests in chosen.values() for digest in digests]
    assert len(set(every)) == len(every), "an image has different labels in different files"
    return "".join(f"{name} {' '.join(sorted(found))}\n" for name, found in chosen.items())


def main() -> None:
    options: Options = command.parse(Options, "bench.known")
    write_file(KNOWN, draw(options.files))
    print(f"{KNOWN}: {sum(len(line.split()) - 1 for line in KNOWN.open())} images")


if __name__ == "__main__":
    command.run(main)
