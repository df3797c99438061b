"""Predict the emotions in pictures: `python -m fer.predict runs/final face.jpg`."""

import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from fer import command
from fer.errors import UserError
from fer.files import check_file, write_file

if TYPE_CHECKING:
    from fer.pages.predictions import Predictions

MAX_COUNT = 200  # faces per picture
MAX_NOTES = 20
OF_DEMO = "note: this model was trained on demo faces: its predictions of real ones mean nothing"
PICTURES = (".png", ".pdf", ".svg")


@dataclass(frozen=True)
class Options:
    """Print the probability of each emotion for image files, or show predictions for a data file.

    An image file may have any size and colour mode, but should show one face and little else: the
    model uses its centre square. Files that cannot be read are listed at the end (exit code 2).
    For a CSV file with pixels and no emotions (test.csv), all images are predicted. For labelled
    data, the run's validation images are predicted, never test images; their titles read
    "true -> predicted", green if correct and red if wrong.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """Folder written by fer.train."""
    images: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Image files, or folders of image files."""
    data: Path | None = None
    """Use this data instead of image files: a CSV file without emotions, or the run's training
    data in any supported format."""
    out: Path | None = None
    """Picture to write (.png, .pdf or .svg) of some of the faces, as the model sees them, with
    their probabilities. An existing file is replaced."""
    table: Path | None = None
    """CSV file to write with the probabilities of all images: one row per image file, per row of a
    file without emotions, or per validation image. An existing file is replaced."""
    count: int = 24
    """Number of faces in the picture, at most 200."""
    seed: int = 0
    """Seed for choosing these faces."""
    worst: bool = False
    """Show the images whose true emotion got the lowest probability, instead of a random
    choice."""

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MAX_COUNT:
            raise UserError(f"--count must be from 1 to {MAX_COUNT}, got {self.count}")
        if self.seed < 0:
            raise UserError(f"--seed must be at least 0, got {self.seed}")
        if self.data is None:
            if self.worst:
                raise UserError("--worst needs --data")
            if not self.images:
                raise UserError("give at least one image file, or a data file with --data")
        elif self.images:
            raise UserError(
                f"give image files or --data, not both: got {self.images[0]} and {self.data}"
            )
        elif self.out is None and (self.worst or self.table is None):
            raise UserError(
                "--data needs --out PICTURE, --table FILE, or both; --worst needs --out"
            )
        check_file("--out", self.out, PICTURES)
        check_file("--table", self.table)
        self._check_files()

    def _check_files(self) -> None:
        """Raise UserError unless each output is a separate file."""
        read = self.images if self.data is None else (self.data,)
        taken = {path.resolve() for path in read}
        for name, path in (("--out", self.out), ("--table", self.table)):
            if path is None:
                continue
            if path.resolve() in taken:
                raise UserError(f"{name} must be a separate file, got {path}")
            taken.add(path.resolve())


def main() -> None:
    options: Options = command.parse(Options, "fer.predict")
    if options.data is None:
        predict_files(options)
    else:
        predict_data(options, options.data)


def predict_files(options: Options) -> None:
    """Predict the readable images, write the outputs, then report the files that failed.

    Raises UserError for the last failed file.
    """
    from fer.data.photos import read_photos
    from fer.pages.predictions import Pictures, predictions
    from fer.runs import load_run

    net, config, trained_on = load_run(options.run)
    photos = read_photos(options.images)
    if photos.paths:
        pictures = Pictures(photos.images(), None, photos.paths)
        found = predictions(net, config, trained_on.classes, pictures)
        saved = write(options, found)
        print_table(found, photos.paths)
        if trained_on.name == "demo":
            print(OF_DEMO, file=sys.stderr)
        for path in saved:
            print(f"saved {command.printable(str(path))}")
    print(end="", flush=True)  # works even if standard output is closed
    for note in photos.notes[:MAX_NOTES]:
        print(command.printable(f"note: {note}"), file=sys.stderr)
    if len(photos.notes) > MAX_NOTES:
        print(f"note: and {len(photos.notes) - MAX_NOTES:,} more", file=sys.stderr)
    for error in photos.errors[:-1]:
        print(command.printable(f"error: {error}"), file=sys.stderr)
    if photos.errors:
        raise photos.errors[-1]


def print_table(found: "Predictions", paths: Sequence[str]) -> None:
    """Print the predicted class and all probabilities of each file."""
    names = [command.printable(path) for path in paths]
    width = max(map(len, names))
    print(f"{'':{width}}  {'':10}" + "".join(f"{name:>10}" for name in found.classes))
    rows = zip(names, found.predicted.tolist(), found.probabilities.tolist(), strict=True)
    for name, best, row in rows:
        shares = "".join(f"{share:10.1%}" for share in row)
        print(f"{name:{width}}  {found.classes[best]:10}{shares}")


def predict_data(options: Options, source: Path) -> None:
    """Predict the images of the data `source`, and write the outputs.

    Raises UserError if it cannot be read or written.
    """
    from fer.pages.predictions import predictions, read_pictures
    from fer.runs import load_run

    net, config, trained_on = load_run(options.run)
    pictures = read_pictures(source, trained_on)
    if options.worst and pictures.labels is None:
        raise UserError(f"--worst needs emotions, but {source} has none")
    found = predictions(net, config, trained_on.classes, pictures)
    saved = write(options, found)
    images, words = len(found.images), "without emotions"
    if found.labels is not None:
        right = found.right()
        words = f"of validation, {right:,} ({right / images:.1%}) correct"
    print(f"images     {images:,} {words}")
    counts = Counter(found.predicted.tolist())
    shares = (f"{counts[label]:,} {name}" for label, name in enumerate(found.classes))
    print(f"predicted  {', '.join(shares)}")
    for path in saved:
        print(f"saved      {command.printable(str(path))}")


def write(options: Options, found: "Predictions") -> list[Path]:
    """Write the requested table and picture; return their paths. May raise UserError."""
    from fer.pages.gallery import draw_gallery

    # Create everything before writing anything.
    contents: dict[Path, bytes] = {}
    if options.table is not None:
        contents[options.table] = os.fsencode(found.table())  # keeps the bytes of paths
    if options.out is not None:
        if options.worst:
            chosen = found.worst(options.count)
        else:
            chosen = found.drawn(options.count, options.seed)
        contents[options.out] = draw_gallery(found, chosen, options.out.suffix[1:].lower())
    for path, content in contents.items():
        write_file(path, content)
    return list(contents)


if __name__ == "__main__":
    command.run(main)
