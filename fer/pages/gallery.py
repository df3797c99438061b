"""A grid of faces with a model's predictions (report, figure 5d)."""

import io
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fer.pages.predictions import Predictions

COLUMNS = 4
DPI = 120
# Inches, chosen to give whole numbers of dots, with 3x3 dots per pixel of a face.
CELL = (3.1, 1.65)
FACE = 1.2
MARGIN = 0.1
NAMES = 0.6  # for class names, between the face and its bars
NAME = 28  # characters of a file name
PLAIN, CHOSEN, RIGHT, WRONG = "0.75", "tab:blue", "tab:green", "tab:red"


def draw_gallery(predictions: Predictions, chosen: NDArray[np.int64], kind: str) -> bytes:
    """Draw the `chosen` images; `kind` is the format, such as "png".

    Each image has a title, and a bar for each probability. The title is the prediction, with
    labels preceded by the true class, in green if they agree and red otherwise.
    """
    columns = min(COLUMNS, len(chosen))
    rows = -(-len(chosen) // columns)
    width, height = columns * CELL[0], rows * CELL[1]
    figure = Figure(figsize=(width, height), dpi=DPI)

    def box(x: float, y: float, wide: float, high: float) -> tuple[float, float, float, float]:
        # Convert inches from the top left to shares of the figure from the bottom left.
        return x / width, 1 - (y + high) / height, wide / width, high / height

    for place, index in enumerate(chosen.tolist()):
        x, y = place % columns * CELL[0] + MARGIN, place // columns * CELL[1] + MARGIN
        top = CELL[1] - FACE - 2 * MARGIN
        words, colour, colours = describe(predictions, index)
        place_of = (x / width, 1 - y / height)
        figure.text(*place_of, words, color=colour, fontsize=9, va="top", parse_math=False)
        face = figure.add_axes(box(x, y + top, FACE, FACE))
        # As RGB, because a colour map may round a grey to its neighbour.
        face.imshow(np.stack([predictions.images[index]] * 3, axis=-1), interpolation="nearest")
        face.set_axis_off()
        left = x + FACE + NAMES
        bars = figure.add_axes(
            box(left, y + top, (place % columns + 1) * CELL[0] - MARGIN - left, FACE)
        )
        shares = predictions.probabilities[index]
        drawn = bars.barh(range(len(shares)), shares, color=colours)
        bars.bar_label(drawn, [f"{share:.0%}" for share in shares], padding=2, fontsize=7)
        bars.set_xlim(0, 1.35)  # room for the label next to a bar of 1
        bars.invert_yaxis()
        bars.set_yticks(range(len(shares)), predictions.classes, fontsize=7)
        bars.set_xticks([])
        bars.tick_params(length=0)
        bars.spines[["top", "right", "bottom"]].set_visible(False)
    picture = io.BytesIO()
    figure.savefig(picture, format=kind, dpi=DPI)
    return picture.getvalue()


def describe(predictions: Predictions, index: int) -> tuple[str, str, list[str]]:
    """Return the title of an image, its colour, and the colours of its bars."""
    best = int(predictions.predicted[index])
    classes, shares = predictions.classes, predictions.probabilities[index]
    said = f"{classes[best]} {shares[best]:.0%}"
    colours = [PLAIN] * len(classes)
    if predictions.labels is None:
        colours[best] = CHOSEN
        name = str(index + 1) if predictions.paths is None else shown(predictions.paths[index])
        return f"{name}: {said}", "black", colours
    true = int(predictions.labels[index])
    colours[best], colours[true] = WRONG, RIGHT
    return (
        f"{classes[true]} \N{RIGHTWARDS ARROW} {said}",
        RIGHT if best == true else WRONG,
        colours,
    )


def shown(path: str) -> str:
    """Return a file name in ASCII, only its end if it is long."""
    name = Path(path).name.encode("ascii", "backslashreplace").decode().replace("\n", "\\n")
    return name if len(name) <= NAME else f"...{name[-NAME:]}"
