"""Model card in Hugging Face's format: README.md in a run folder.

Written at the end of training. Later scores (of a test split or of other seeds) are added, and the
user's own text is kept.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fer.data import Faces, split_in_words
from fer.files import drop_link, write_file
from fer.network.model import parameter_count
from fer.onnx_file import FILE as ONNX
from fer.onnx_file import INPUT, OUTPUT
from fer.pages import front_matter
from fer.pages.limits import DEMO_LIMITS, LIMITS
from fer.runs import WEIGHTS, Plan
from fer.training import metrics
from fer.training.fit import Epoch, Run

FILE = "README.md"
LIMITED = "## Limits"  # later sections are inserted before it
NAMES = {"fer2013": "FER-2013", "demo": "drawn demo faces"}
TYPES = {"accuracy": "accuracy", "macro-F1": "f1", "balanced accuracy": "balanced_accuracy"}
"""Hugging Face metric type of each score."""

Scores = Mapping[str, metrics.Score]


def write(
    folder: Path,
    plan: Plan,
    run: Run,
    validation: Faces | None,
    score: metrics.Score | None,
    scored: int,
    last: Epoch,
    onnx: bool,
) -> None:
    """Write the card of a trained run.

    `score` is that of its last `scored` epochs, None without validation. Raises UserError if the
    card cannot be written.
    """
    data = plan.data
    name = NAMES.get(data.name, data.name)
    tags = ["image-classification", "facial-emotion-recognition", data.name, "pytorch"]
    head: dict[str, Any] = {
        "tags": [*tags, "safetensors", *(["onnx"] if onnx else [])],
        "pipeline_tag": "image-classification",
        "metrics": ["accuracy", "f1"],
    }
    body = [
        f"# Facial emotion recognition: {name}",
        f"A convolutional network with {parameter_count(run.net):,} parameters that predicts the "
        f"probabilities of {len(data.classes)} emotions: {', '.join(data.classes)}.",
        "No license is given. Before publishing the model, add `license:` to the head of "
        "this file, and check the terms of the data.",
        f"## Data\n\n{_data(plan, run, validation)}",
        f"## Protocol\n\n{_protocol(plan, validation, scored)}",
        f"## Score\n\n{_score(validation, score, scored, last)}",
        f"{LIMITED}\n\n{DEMO_LIMITS if data.name == 'demo' else LIMITS}",
        f"## Use\n\n{_use(plan, onnx)}",
    ]
    text = front_matter.joined(head, "\n\n".join(body) + "\n")
    if score is not None:
        others = {
            "macro-F1": metrics.macro_f1(last.confusion),
            "balanced accuracy": metrics.balanced_accuracy(last.confusion),
        }
        found = [
            _metric("accuracy", score.value, f"mean of the last {scored} epochs", score),
            *(_metric(each, value, "last epoch") for each, value in others.items()),
        ]
        text = _with_result(text, folder, data.name, "validation", data.sha256, found)
    drop_link(folder / FILE)
    write_file(folder / FILE, text)


def add(folder: Path, section: str, words: str) -> None:
    """Add a section to the card of a run, or replace the one with that name.

    Raises UserError if it cannot be read or written.
    """
    write_file(
        folder / FILE,
        front_matter.with_section(front_matter.read(folder / FILE), section, words, LIMITED),
    )


def add_test(
    folder: Path,
    data: str,
    sha256: str,
    usage: str,
    scores: Scores,
    confusion: metrics.Counts,
    classes: Sequence[str],
    words: str,
) -> bool:
    """Add the scores of a test split to the card of a run; return False if it has no card.

    Raises UserError if the card cannot be read or written.
    """
    if not (folder / FILE).is_file():
        return False
    text = front_matter.read(folder / FILE)
    found = [_metric(name, score.value, "", score) for name, score in scores.items()]
    text = _with_result(text, folder, data, usage, sha256, found)
    lines = [f"| {name} | {score.value:.4f} | {_ends(score)} |" for name, score in scores.items()]
    table = "\n".join(["| score | | 95% over images |", "| --- | --: | --- |", *lines])
    per_class = class_table(confusion, classes)
    content = f"### Test: {usage}\n\n{words}\n\n{table}\n\n{per_class}"
    write_file(folder / FILE, front_matter.with_section(text, f"test {usage}", content, LIMITED))
    return True


def class_table(confusion: metrics.Counts, classes: Sequence[str]) -> str:
    """Format precision, recall and F1 of each class in Markdown."""
    columns = zip(
        classes,
        metrics.precisions(confusion),
        metrics.recalls(confusion),
        metrics.f1_scores(confusion),
        confusion.sum(1),
        strict=True,
    )
    lines = ["| class | precision | recall | F1 | images |", "| --- | --: | --: | --: | --: |"]
    for name, *shares, count in columns:
        numbers = " | ".join(f"{share:.3f}".replace("nan", "-") for share in shares)
        lines.append(f"| {name} | {numbers} | {count:,} |")
    return "\n".join(lines)


def _data(plan: Plan, run: Run, validation: Faces | None) -> str:
    data = plan.data
    count = len(run.train)
    images = f"{count:,} training images"
    if plan.config.oversample in data.classes:
        images += f", including copies of {plan.config.oversample}"
    lines = [
        f"{NAMES.get(data.name, data.name)}; SHA-256 of its training images, labels and class "
        f"names: `{data.sha256}`.",
        f"{images}; "
        + (
            f"{len(validation):,} validation images."
            if validation is not None
            else "they include the validation images, so there is no score."
        ),
    ]
    if data.subset is not None:
        lines.append(f"Only a stratified subset of {data.subset:,} images was used.")
    if data.holdout is not None:
        lines.append(f"A share of {data.holdout:g} of the images was held out for a study.")
    return "\n".join(lines)


def _protocol(plan: Plan, validation: Faces | None, scored: int) -> str:
    data, config, origin = plan.data, plan.config, plan.origin
    rows = {
        "validation": "none: trained on all images"
        if validation is None
        else f"{split_in_words(data.split, data.split_seed)}, 80:20, stratified by class",
        "seed": str(config.seed),
        "epochs": str(config.epochs),
        "scored": "nothing"
        if validation is None
        else f"mean of epochs {config.epochs - scored + 1} to {config.epochs}; "
        "weights from the last",
        "optimizer": f"{config.optimizer}, learning rate {config.lr:g}, {config.schedule}, "
        f"batch {config.batch_size}",
        "views of an image": {"none": "one"}.get(config.tta, f"averaged: {config.tta}"),
    }
    if origin:
        rows["settings"] = _found(origin)
    lines = [f"| {name} | {words} |" for name, words in rows.items()]
    return "\n".join(
        [
            "| | |",
            "| --- | --- |",
            *lines,
            "",
            "All settings are in `config.yaml`, each epoch in `metrics.csv`.",
        ]
    )


def _found(origin: Mapping[str, Any]) -> str:
    """Describe where the settings come from."""
    where = f"of trial {origin.get('trial')} of study {origin.get('study')}"
    among = origin.get("chosen_among")
    known = origin.get("confirmed")
    confirmed = "confirmed" if known is True else "not confirmed" if known is False else ""
    more = ", ".join(each for each in (among and f"chosen among {among}", confirmed) if each)
    return _cell(f"{where}{f' ({more})' if more else ''}")


def _score(validation: Faces | None, score: metrics.Score | None, scored: int, last: Epoch) -> str:
    if validation is None or score is None:
        return (
            "There were no validation images, so there is no score. `fer.evaluate` adds the score "
            "on a test split."
        )
    return "\n\n".join(
        [
            f"Validation accuracy **{score.value:.4f}** {_ends(score)}: the mean of the last "
            f"{scored} epochs, with its 95% interval over images (noise between seeds not "
            "included). The score is biased upwards if these images were used to select the "
            "settings.",
            f"Last epoch (these weights): macro-F1 {last.macro_f1:.4f}, balanced "
            f"accuracy {last.balanced_accuracy:.4f}, and by class:",
            class_table(last.confusion, validation.classes),
        ]
    )


def _use(plan: Plan, onnx: bool) -> str:
    classes = list(plan.data.classes)
    parts = [
        "The weights are in `model.safetensors`, which contains no code; read them by name with "
        "`safetensors.torch.load_file`. To predict pictures of any size with the program that "
        "trained the model:",
        "```sh\npython -m fer.predict FOLDER face.jpg\n```",
        f"""```python
from pathlib import Path
import torch
from fer.runs import load_run  # reads {WEIGHTS} with safetensors
from fer.training.evaluation import predict

net, config, data = load_run(Path("FOLDER"))
images = torch.zeros(1, 48, 48, dtype=torch.uint8)  # grey faces
print(data.classes, predict(net, images, config).softmax(1))
```""",
    ]
    if onnx:
        parts += [
            f"`{ONNX}` needs only onnxruntime: it takes uint8 [batch, 48, 48], includes scaling, "
            "and returns probabilities in float32; the classes are in its metadata.",
            f"""```python
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("{ONNX}")
images = np.zeros((1, 48, 48), np.uint8)  # grey faces, 0 to 255
(probabilities,) = session.run(["{OUTPUT}"], {{"{INPUT}": images}})
print({classes}, probabilities)
```""",
        ]
    return "\n\n".join(parts)


def _metric(
    name: str, value: float, what: str, interval: metrics.Score | None = None
) -> dict[str, Any]:
    """Return a score in the format of the card's head."""
    found: dict[str, Any] = {
        "type": TYPES[name],
        "name": f"{name}{f', {what}' if what else ''}",
        "value": round(value, 6),
    }
    if interval is not None:
        found["args"] = {"interval_95": [round(interval.low, 6), round(interval.high, 6)]}
    return found


def _with_result(
    text: str, folder: Path, data: str, split: str, sha256: str, found: list[dict[str, Any]]
) -> str:
    """Add scores to the head of a card, replacing those of the same split."""
    head, body = front_matter.parted(text, folder / FILE)
    index = head.get("model-index")
    models = index if isinstance(index, list) and index and isinstance(index[0], dict) else []
    model = models[0] if models else {"name": _name(folder)}
    results = model.get("results")
    kept = [
        each
        for each in (results if isinstance(results, list) else [])
        if not (isinstance(each, dict) and (each.get("dataset") or {}).get("split") == split)
    ]
    result = {
        "task": {"type": "image-classification"},
        "dataset": {
            "type": data,
            "name": NAMES.get(data, data),
            "split": split,
            "args": {"training_sha256": sha256},
        },
        "metrics": found,
    }
    head["model-index"] = [{**model, "results": [*kept, result]}, *models[1:]]
    return front_matter.joined(head, body)


def _name(folder: Path) -> str:
    """Return the model's name."""
    place = folder.resolve()
    parts = (place.parent.name, place.name) if place.name.startswith("seed-") else (place.name,)
    return "-".join(parts)


def _ends(score: metrics.Score) -> str:
    return f"[{score.low:.4f}, {score.high:.4f}]"


def _cell(text: str) -> str:
    """Escape text for a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")
