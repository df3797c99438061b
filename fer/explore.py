"""Explore the data (report, chapter 1): `python -m fer.explore --data fer2013.csv --out DIR`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fer import command
from fer.errors import UserError
from fer.files import check_folder, make_folder, write_file

if TYPE_CHECKING:
    from fer.data import Dataset, Faces
    from fer.pages.augmentations import Oversampled
    from fer.pages.census import Census

FACES = 16  # of each emotion
AUGMENTED = 8  # faces
HEAD = 5  # rows
STYLE = (
    "body{font:15px system-ui;max-width:1100px;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse}td,th{padding:.2em .8em;text-align:left;"
    "border-bottom:1px solid #ddd}th{font-weight:500}img{width:96px;height:96px;margin:2px;"
    "image-rendering:pixelated}figure{display:inline-flex;margin:.5em 1em .5em 0;padding:4px;"
    "border:1px solid #ddd}span{display:inline-block;text-align:center}small{display:block}"
)


@dataclass(frozen=True)
class Options:
    """Count and show the images: classes, faces, duplicates, ambiguous and empty ones.

    Writes one self-contained HTML page, explore.html. Only training images are shown.
    """

    data: Path | None = None
    """FER-2013 in any supported format; by default FER_DATA, ./data, or the demo faces."""
    out: Path = Path("explored")
    """Folder to write explore.html to; created if it is missing, and an existing page is
    replaced."""
    split: Literal["grouped", "stratified", "file-order"] = "grouped"
    """Split to count: grouped keeps identical images on one side; stratified is the report's;
    file-order is stratified over the rows in file order."""
    seed: int = 0
    """Seed for choosing the faces to show."""

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UserError(f"--seed must be at least 0, got {self.seed}")


def main() -> None:
    options: Options = command.parse(Options, "fer.explore")
    check_folder("--out", options.out)

    from fer import data
    from fer.pages.augmentations import oversampled
    from fer.pages.census import take_census

    dataset = data.load(options.data)
    census = take_census(dataset)
    in_order = data.arranged(dataset, (), options.split)
    sides = data.split(in_order.part("Training"), options.split)
    grown = oversampled(sides[0], options.seed)
    facts = gather(dataset, census, options.split, sides, grown)
    for title, rows in facts.items():
        print(title)
        width = max(len(name) for name, _ in rows)
        for name, value in rows:
            print(f"  {name:{width}}  {value}")
    page = render(dataset, census, facts, grown, options.seed)
    path = options.out / "explore.html"
    make_folder(options.out)
    write_file(path, page)
    print(f"saved {command.printable(str(path))}")


Facts = dict[str, list[tuple[str, str]]]
"""Pairs of name and text by title."""


def gather(
    dataset: "Dataset",
    census: "Census",
    kind: str,
    sides: "tuple[Faces, Faces]",
    grown: "Oversampled",
) -> Facts:
    """Return the facts to print and to show on the page."""
    import numpy as np

    from fer.data.faces import image_digests

    training = dataset.part("Training")
    counts = training.counts()
    mean = len(training) / len(counts)
    below = [name for name, count in counts.items() if count < mean]
    steps = grown.steps()
    enlarged = max(images for images, _ in steps.values())
    digests = [image_digests(side.images.numpy()) for side in sides]
    twins = int(np.isin(digests[1], digests[0]).sum())
    usages = dataset.counts()
    labels = dataset.labels
    within = sum(
        len({labels[row] for row in rows if dataset.usages[row] == 0}) > 1
        for rows in census.conflicting
    )
    return {
        f"{dataset.name}: {census.images:,} images of {dataset.images.shape[1]} x "
        f"{dataset.images.shape[2]} greys (0 to 255)": [
            (usage, f"{count:,}") for usage, count in usages.items()
        ],
        f"Training: mean {mean:,.0f} per class, {len(below)} below it": [
            (name, f"{count:,} ({count / len(training):.1%})") for name, count in counts.items()
        ],
        "Identical images": [
            ("distinct images", f"{census.distinct:,} of {census.images:,}"),
            *((f"repeated within {name}", f"{n:,}") for name, n in census.repeated.items()),
            ("in two or more usages", f"{census.across:,} groups"),
            *((f"in {a} and {b}", f"{n:,} groups") for (a, b), n in census.shared.items()),
        ],
        "Ambiguous and empty": [
            ("identical images with different labels", f"{len(census.conflicting)} groups"),
            ("of these, within Training", f"{within} groups"),
            ("constant images", f"{len(census.constant)}"),
        ],
        f"The {kind} split": [
            ("training", f"{len(sides[0]):,}, {enlarged:,} with {grown.name} oversampled"),
            ("validation", f"{len(sides[1]):,}"),
            ("validation images with a twin in training", f"{twins:,}"),
        ],
        f"Oversampling {grown.name} in the {kind} split": [
            (step, f"{images:,} training images, {count:,} of {grown.name}")
            for step, (images, count) in steps.items()
        ],
    }


def render(
    dataset: "Dataset", census: "Census", facts: Facts, grown: "Oversampled", seed: int
) -> str:
    """Return the page's HTML; it loads nothing from the network."""
    from html import escape

    import numpy as np

    from fer.pages.augmentations import CROPPED, added_faces, augmented, scalings, ten_crop

    rows = np.flatnonzero(dataset.usages == 0)
    generator = np.random.default_rng(seed)
    parts = [
        *fact_tables(facts, dataset.labels[rows], dataset.classes),
        first_rows(dataset, rows),
        *faces_of_classes(dataset, rows, generator),
    ]
    faces = dataset.images[generator.permutation(rows)[:AUGMENTED]]
    parts += [
        augmented(faces, seed),
        scalings(dataset.images[rows], faces),
        ten_crop(faces[:CROPPED]),
        added_faces(grown, seed),
        doubtful(dataset, census),
    ]
    name = escape(dataset.name)
    return (
        f"<!doctype html><html lang=en><meta charset='utf-8'><title>{name}</title>"
        f"<style>{STYLE}</style><h1>{name}</h1>"
        "<p>Only training images are shown: looking at test images means tuning on them.</p>"
        + "".join(parts)
        + "</html>"
    )


def fact_tables(facts: Facts, labels: Any, classes: tuple[str, ...]) -> Iterator[str]:
    """Yield a table for each kind of facts, and a bar chart of the training classes."""
    from html import escape

    for title, pairs in facts.items():
        cells = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in pairs
        )
        yield f"<h2>{escape(title)}</h2><table>{cells}</table>"
        if title.startswith("Training"):
            yield class_plot(labels, classes)


def first_rows(dataset: "Dataset", rows: Any) -> str:
    """Return a table of the first training images."""
    head = "".join(
        f"<tr><td>{dataset.labels[row]} {dataset.classes[dataset.labels[row]]}</td>"
        f"<td><code>{' '.join(map(str, dataset.images[row].ravel()[:12]))} ...</code></td></tr>"
        for row in rows[:HEAD]
    )
    return (
        f"<h2>Shape and head</h2><p>Training has {len(rows):,} rows of an emotion and "
        f"{dataset.images[0].size:,} pixels, here in order of the images' hashes.</p>"
        f"<table><tr><th>emotion</th><th>pixels</th></tr>{head}</table>"
    )


def faces_of_classes(dataset: "Dataset", rows: Any, generator: Any) -> Iterator[str]:
    """Yield faces of each class, drawn from the training images."""
    from html import escape

    from fer.pages.pictures import picture

    for label, name in enumerate(dataset.classes):
        of_class = rows[dataset.labels[rows] == label]
        chosen = generator.permutation(of_class)[:FACES]
        pictures = "".join(picture(dataset.images[row]) for row in chosen)
        yield f"<h2>{escape(name)}</h2><div>{pictures}</div>"


def doubtful(dataset: "Dataset", census: "Census") -> str:
    """Return training images with conflicting labels, and empty ones."""
    from fer.pages.pictures import captioned

    def figure(rows: list[int]) -> str:
        pictures = (
            captioned(dataset.images[row], dataset.classes[dataset.labels[row]]) for row in rows
        )
        return f"<figure>{''.join(pictures)}</figure>"

    def training(rows: Any) -> list[int]:
        return [row for row in rows if dataset.usages[row] == 0]

    groups = [training(group) for group in census.conflicting]
    ambiguous = [group for group in groups if len({dataset.labels[row] for row in group}) > 1]
    return (
        "<h2>Ambiguous: identical pixels, different labels</h2>"
        + "".join(map(figure, ambiguous))
        + "<h2>Empty: a single grey</h2>"
        + figure(training(census.constant))
    )


def class_plot(labels: Any, classes: tuple[str, ...]) -> str:
    """Return a bar chart of the images per class, with the mean (report, figure 1e)."""
    import numpy as np
    import plotly.graph_objects as go

    counts = np.bincount(labels, minlength=len(classes))
    figure = go.Figure(go.Bar(x=list(classes), y=counts.tolist(), text=counts.tolist()))
    figure.add_hline(
        counts.mean(),
        line_dash="dash",
        annotation_text=f"mean {counts.mean():,.0f}",
        annotation_position="top left",
    )
    figure.update_layout(template="plotly_white", height=380, margin={"t": 30})
    html: str = figure.to_html(full_html=False, include_plotlyjs=True)
    return html


if __name__ == "__main__":
    command.run(main, lasting=True)
