"""Evaluate a model on the sealed test split, once: `python -m fer.evaluate runs/final`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from fer import command
from fer.config import EMOTIONS
from fer.errors import UserError
from fer.files import check_file, drop_link, write_file
from fer.strict_json import to_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fer.data import Dataset, Faces
    from fer.training.metrics import Counts, Score


@dataclass(frozen=True)
class Options:
    """Score a trained model on images it has never seen, with 95% intervals."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder written by fer.train."""
    data: Path | None = None
    """FER-2013 in any supported format; by default FER_DATA, ./data, or the demo faces."""
    split: Literal["test", "PrivateTest", "PublicTest", "Test", "Validation"] = "test"
    """test is PrivateTest if the data has it, else PublicTest, else a labelled test folder; never
    a validation split."""
    out: Path | None = None
    """JSON file to write the figures to; an existing file is replaced."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device to compute on."""


def main() -> None:
    options: Options = command.parse(Options, "fer.evaluate")
    if not options.run.is_dir():
        raise UserError(f"not a run folder: {options.run}")
    check_file("--out", options.out)

    import numpy as np

    from fer import data, looks, runs
    from fer.data.faces import image_digests
    from fer.training import metrics
    from fer.training.device import choose
    from fer.training.evaluation import evaluate
    from fer.training.fit import to_device

    device = choose(options.device)
    net, config, trained_on = runs.load_run(options.run)
    removed = [name for name in EMOTIONS if name not in trained_on.classes]
    whole = data.find(options.data)
    dataset = data.arranged(whole, removed, trained_on.split)
    if dataset.sha256 != trained_on.sha256:
        difference = (
            f"the model was trained on {trained_on.name} ({trained_on.sha256[:12]}), "
            f"this is {dataset.name} ({dataset.sha256[:12]})"
        )
        if options.data is None:
            raise UserError(f"other data: {difference}; give the images with --data")
        print(f"note: {command.printable(difference)}")
    usage, faces = choose_split(dataset, options.split)
    looks.check(options.run)

    on_device = to_device(faces, device)
    found = evaluate(net.to(device), on_device, config)
    confusion = found.confusion.cpu().numpy()
    seen = image_digests(dataset.part("Training").images.numpy())
    fresh = ~np.isin(image_digests(faces.images.numpy()), seen)
    scores = metrics.bootstrap(confusion, np.random.default_rng(config.seed))
    fresh_scores: dict[str, metrics.Score] = {}
    if fresh.any():
        rest = to_device(faces.take(np.flatnonzero(fresh)), device)
        fresh_confusion = evaluate(net, rest, config).confusion.cpu().numpy()
        fresh_scores = metrics.bootstrap(fresh_confusion, np.random.default_rng(config.seed))

    values = {name: score.value for name, score in scores.items()}
    look = Look(whole.sha256, *looks.take(options.run, usage, whole.sha256, values))
    shown = Shown(usage, dataset, look, float(found.loss), confusion, fresh, scores, fresh_scores)
    show(shown, options.run)
    add_to_card(shown, options.run)
    if options.out is not None:
        write_figures(shown, options.out)


@dataclass(frozen=True)
class Look:
    """A look at a test split: its number over all runs and for this run, from 1."""

    data_sha256: str
    number: int
    of_run: int


@dataclass(frozen=True)
class Shown:
    """Results of a look at a test split."""

    usage: str
    dataset: "Dataset"
    look: Look
    loss: float
    confusion: "Counts"
    fresh: "NDArray[np.bool_]"  # [N]: images without a twin in training
    scores: "dict[str, Score]"
    fresh_scores: "dict[str, Score]"  # on these images only; empty if there are none


def show(shown: Shown, run: Path) -> None:
    """Print scores and classes, and save the confusion matrix in the run folder."""
    from fer.pages import plots

    confusion, classes = shown.confusion, shown.dataset.classes
    look = shown.look
    more = "; each one makes the score a little less reliable" if look.number > 1 else ""
    print(
        f"{shown.usage}: {len(shown.fresh)} images of {shown.dataset.name}; evaluation "
        f"{look.number} on this split of data {look.data_sha256[:12]} ({look.of_run} by this run)"
        f"{more}"
    )
    twins = int((~shown.fresh).sum())
    print(f"{'':18} score   95% interval       without {twins} twins of training images")
    for name, score in shown.scores.items():
        print(f"{name:18} {score}   {shown.fresh_scores.get(name, 'no image is left')}")
    print(f"{'loss':18} {shown.loss:.4f}")
    print(
        "intervals: over images like these (bootstrap); they cover neither other seeds nor "
        "other kinds of pictures"
    )
    print()
    print(class_table(confusion, classes))
    picture = run / f"confusion-{shown.usage}.png"
    title = f"{shown.usage}: accuracy {shown.scores['accuracy'].value:.4f}"
    drop_link(picture)
    plots.save_confusion(confusion, classes, title, picture)
    print(f"\nsaved  {command.printable(str(picture))}")


def add_to_card(shown: Shown, run: Path) -> None:
    """Add the scores to the run's model card, if it has one.

    Prints a note if that fails, because the look has already been counted.
    """
    from fer.pages import card

    images, look, dataset = len(shown.fresh), shown.look, shown.dataset
    words = (
        f"{images:,} images of {dataset.name}, of which {int((~shown.fresh).sum()):,} have a twin "
        f"in training. It was evaluation {look.number} on this split of data "
        f"`{look.data_sha256[:12]}`, {look.of_run} of them by this model: each makes the score a "
        "little less reliable."
    )
    try:
        added = card.add_test(
            *(run, dataset.name, dataset.sha256, shown.usage, shown.scores),
            *(shown.confusion, dataset.classes, words),
        )
    except UserError as error:
        print(command.printable(f"note: the model card was not updated: {error}"))
        return
    if added:
        print(f"saved  {command.printable(str(run / card.FILE))}, with these scores")


def write_figures(shown: Shown, out: Path) -> None:
    """Write the figures as JSON. Raise UserError if they cannot be written."""
    figures = {
        "split": shown.usage,
        "images": len(shown.fresh),
        "look": shown.look.number,
        "look_of_run": shown.look.of_run,
        "loss": shown.loss,
        "scores": {name: vars(score) for name, score in shown.scores.items()},
        "without_twins": {name: vars(score) for name, score in shown.fresh_scores.items()},
        "classes": list(shown.dataset.classes),
        "confusion": shown.confusion.tolist(),
    }
    write_file(out, to_json(figures, indent=2))
    print(f"saved  {command.printable(str(out))}")


def choose_split(dataset: "Dataset", wanted: str) -> "tuple[str, Faces]":
    """Return the usage that `wanted` stands for, and its images. Raise UserError if there are
    none."""
    usages = ("PrivateTest", "PublicTest", "Test") if wanted == "test" else (wanted,)
    counts = dataset.counts()
    has = ", ".join(f"{count} {usage}" for usage, count in counts.items())
    present = [usage for usage in usages if usage in counts]
    if not present:
        raise UserError(f"the data has no labelled {wanted} images, it has {has}; see --data")
    if len(present) > 1 and "Test" in present:  # its relation to the others is unknown
        raise UserError(f"several splits could be the test, choose one with --split: {has}")
    return present[0], dataset.part(present[0])


def class_table(confusion: "Counts", classes: tuple[str, ...]) -> str:
    """Format a line per class: precision, recall, F1, and the underlying counts."""
    from fer.training import metrics

    lines = [f"{'class':10} {'precision':>9} {'recall':>7} {'F1':>7} {'right':>6} {'support':>8}"]
    columns = zip(
        classes,
        metrics.precisions(confusion),
        metrics.recalls(confusion),
        metrics.f1_scores(confusion),
        confusion.diagonal(),
        confusion.sum(1),
        strict=True,
    )
    for name, precision, recall, f1, right, support in columns:
        lines.append(f"{name:10} {precision:9.4f} {recall:7.4f} {f1:7.4f} {right:6} {support:8}")
    return "\n".join(lines)


if __name__ == "__main__":
    command.run(main, lasting=True)
