"""What a trained model sees in pictures: `python -m fer.predict runs/final face.jpg`."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fer import command
from fer.errors import UserError
from fer.files import write_file

MAX_COUNT = 200  # faces in a picture
PICTURES = (".png", ".pdf", ".svg")


@dataclass(frozen=True)
class Options:
    """Print the probability of each emotion for image files, or picture those of a data file.

    An image file, of any size and colour mode, should show one face and little else: its centred
    square is what the model sees. Of a CSV file with pixels and no emotions (test.csv) all images
    are predicted. Of labelled data it is the run's validation images, never test images; their
    titles say "true -> predicted", green where right and red where wrong.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """Folder written by fer.train."""
    images: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Image files."""
    data: Path | None = None
    """Instead of image files: a CSV file without emotions, or the data that the run was trained
    on in any known form."""
    out: Path | None = None
    """Picture of some faces of --data with their probabilities: .png, .pdf or .svg."""
    table: Path | None = None
    """CSV file for the probabilities of all images of --data: row by row of a file without
    emotions, else of the validation images."""
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
            for name in ("out", "table", "worst"):
                if getattr(self, name):
                    raise UserError(f"--{name} is for --data, which is not given")
            if not self.images:
                raise UserError("name at least one image file, or a data file with --data")
            return
        if self.images:
            raise UserError(
                f"give image files or --data, not both: got {self.images[0]} and {self.data}"
            )
        if self.out is None and (self.worst or self.table is None):
            raise UserError(
                "--data needs --out PICTURE, --table FILE, or both; --worst is of --out"
            )
        if self.out is not None and self.out.suffix.lower() not in PICTURES:
            raise UserError(f"--out must end in one of {', '.join(PICTURES)}, got {self.out}")
        taken = {self.data.resolve()}
        for name, path in (("--out", self.out), ("--table", self.table)):
            if path is None:
                continue
            if not path.parent.is_dir():
                raise UserError(f"no such folder to write to: {path.parent}")
            if path.is_dir():
                raise UserError(f"{name} must be a file, got the folder {path}")
            if path.resolve() in taken:
                raise UserError(f"{name} must be a file of its own, got {path}")
            taken.add(path.resolve())


def main() -> None:
    options: Options = command.parse(Options, "fer.predict")
    if options.data is None:
        print_table(options.run, options.images)
    else:
        picture(options, options.data)


def print_table(run: Path, paths: tuple[Path, ...]) -> None:
    """Print the probabilities of image files. Raises UserError if one cannot be read."""
    import numpy as np
    import torch

    from fer.data.decode import read_face
    from fer.runs import load_run
    from fer.training.evaluation import predict

    net, config, trained_on = load_run(run)
    faces = [read_face(str(path)) for path in paths]
    scores = predict(net, torch.from_numpy(np.stack(faces)), config)
    names = [command.printable(str(path)) for path in paths]
    width = max(map(len, names))
    print(f"{'':{width}}  {'':10}" + "".join(f"{name:>10}" for name in trained_on.classes))
    for name, row in zip(names, scores.softmax(1).tolist(), strict=True):
        best = trained_on.classes[max(range(len(row)), key=row.__getitem__)]
        shares = "".join(f"{share:10.1%}" for share in row)
        print(f"{name:{width}}  {best:10}{shares}")


def picture(options: Options, source: Path) -> None:
    """Predict the images of the data `source`, and write what is asked for.

    Raises UserError if it cannot be read or written.
    """
    from fer.pages.gallery import draw_gallery
    from fer.pages.predictions import predictions, read_pictures
    from fer.runs import load_run

    net, config, trained_on = load_run(options.run)
    pictures = read_pictures(source, trained_on)
    if options.worst and pictures.labels is None:
        raise UserError(f"--worst needs emotions, there are none in {source}")
    found = predictions(net, config, trained_on.classes, pictures)
    # All is made before anything is written.
    contents: dict[Path, bytes] = {}
    if options.table is not None:
        contents[options.table] = found.table().encode()
    if options.out is not None:
        if options.worst:
            chosen = found.worst(options.count)
        else:
            chosen = found.drawn(options.count, options.seed)
        contents[options.out] = draw_gallery(found, chosen, options.out.suffix[1:].lower())
    for path, content in contents.items():
        write_file(path, content)
    images, words = len(found.images), "without emotions"
    if found.labels is not None:
        right = found.right()
        words = f"of validation, {right:,} ({right / images:.1%}) right"
    print(f"images     {images:,} {words}")
    counts = Counter(found.predicted.tolist())
    shares = (f"{counts[label]:,} {name}" for label, name in enumerate(found.classes))
    print(f"predicted  {', '.join(shares)}")
    for path in contents:
        print(f"saved      {command.printable(str(path))}")


if __name__ == "__main__":
    command.run(main)
