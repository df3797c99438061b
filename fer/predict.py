"""What a trained model sees in pictures: `python -m fer.predict runs/final face.jpg`."""

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

MAX_COUNT = 200  # faces in a picture
MAX_NOTES = 20
PICTURES = (".png", ".pdf", ".svg")


@dataclass(frozen=True)
class Options:
    """Print the probability of each emotion for image files, or picture those of a data file.

    An image file, of any size and colour mode, should show one face and little else: its centred
    square is what the model sees. Files that cannot be read are named at the end (exit code 2).
    Of a CSV file with pixels and no emotions (test.csv) all images are predicted. Of labelled data
    it is the run's validation images, never test images; their titles say "true -> predicted",
    green where right and red where wrong.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """Folder written by fer.train."""
    images: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Image files, and folders of them."""
    data: Path | None = None
    """Instead of image files: a CSV file without emotions, or the data that the run was trained
    on in any known form."""
    out: Path | None = None
    """.png, .pdf or .svg file to write a picture to of some of the faces, as the model sees them,
    with their probabilities; one that is there is replaced."""
    table: Path | None = None
    """CSV file to write the probabilities of all images to: file by file, row by row of a file
    without emotions, else of the validation images; one that is there is replaced."""
    count: int = 24
    """Faces in the picture, at most 200."""
    seed: int = 0
    """Seed of the draw of these faces."""
    worst: bool = False
    """Picture the images whose true emotion got the least probability, instead of a draw."""

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MAX_COUNT:
            raise UserError(f"--count must be from 1 to {MAX_COUNT}, got {self.count}")
        if self.seed < 0:
            raise UserError(f"--seed must be at least 0, got {self.seed}")
        if self.data is None:
            if self.worst:
                raise UserError("--worst is for --data, which is not given")
            if not self.images:
                raise UserError("name at least one image file, or a data file with --data")
        elif self.images:
            raise UserError(
                f"give image files or --data, not both: got {self.images[0]} and {self.data}"
            )
        elif self.out is None and (self.worst or self.table is None):
            raise UserError(
                "--data needs --out PICTURE, --table FILE, or both; --worst is of --out"
            )
        check_file("--out", self.out, PICTURES)
        check_file("--table", self.table)
        self._check_files()

    def _check_files(self) -> None:
        """Raise UserError if what is to be written is no file of its own."""
        read = self.images if self.data is None else (self.data,)
        taken = {path.resolve() for path in read}
        for name, path in (("--out", self.out), ("--table", self.table)):
            if path is None:
                continue
            if path.resolve() in taken:
                raise UserError(f"{name} must be a file of its own, got {path}")
            taken.add(path.resolve())


def main() -> None:
    options: Options = command.parse(Options, "fer.predict")
    if options.data is None:
        predict_files(options)
    else:
        predict_data(options, options.data)


def predict_files(options: Options) -> None:
    """Predict the images that can be read, and write what is asked for; then name the others.

    Raises UserError for the last of these.
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
        for path in saved:
            print(f"saved {command.printable(str(path))}")
    print(end="", flush=True)  # unlike sys.stdout, it may be closed
    for note in photos.notes[:MAX_NOTES]:
        print(command.printable(f"note: {note}"), file=sys.stderr)
    if len(photos.notes) > MAX_NOTES:
        print(f"note: and {len(photos.notes) - MAX_NOTES:,} more", file=sys.stderr)
    for error in photos.errors[:-1]:
        print(command.printable(f"error: {error}"), file=sys.stderr)
    if photos.errors:
        raise photos.errors[-1]


def print_table(found: "Predictions", paths: Sequence[str]) -> None:
    """Print the predicted class of each file, and all its probabilities."""
    names = [command.printable(path) for path in paths]
    width = max(map(len, names))
    print(f"{'':{width}}  {'':10}" + "".join(f"{name:>10}" for name in found.classes))
    rows = zip(names, found.predicted.tolist(), found.probabilities.tolist(), strict=True)
    for name, best, row in rows:
        shares = "".join(f"{share:10.1%}" for share in row)
        print(f"{name:{width}}  {found.classes[best]:10}{shares}")


def predict_data(options: Options, source: Path) -> None:
    """Predict the images of the data `source`, and write what is asked for.

    Raises UserError if it cannot be read or written.
    """
    from fer.pages.predictions import predictions, read_pictures
    from fer.runs import load_run

    net, config, trained_on = load_run(options.run)
    pictures = read_pictures(source, trained_on)
    if options.worst and pictures.labels is None:
        raise UserError(f"--worst needs emotions, there are none in {source}")
    found = predictions(net, config, trained_on.classes, pictures)
    saved = write(options, found)
    images, words = len(found.images), "without emotions"
    if found.labels is not None:
        right = found.right()
        words = f"of validation, {right:,} ({right / images:.1%}) right"
    print(f"images     {images:,} {words}")
    counts = Counter(found.predicted.tolist())
    shares = (f"{counts[label]:,} {name}" for label, name in enumerate(found.classes))
    print(f"predicted  {', '.join(shares)}")
    for path in saved:
        print(f"saved      {command.printable(str(path))}")


def write(options: Options, found: "Predictions") -> list[Path]:
    """Write the table and the picture that are asked for; where they are. Raises UserError."""
    from fer.pages.gallery import draw_gallery

    # All is made before anything is written.
    contents: dict[Path, bytes] = {}
    if options.table is not None:
        contents[options.table] = os.fsencode(found.table())  # of paths the very bytes
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
