"""A model card in Hugging Face's format: README.md in the folder of a run.

What it says of a run stands from the end of its training. Scores that come later, of a test split
or of other seeds, are added to it, and what a person wrote into it stays.
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
LIMITED = "## Limits"  # what comes later stands before it
NAMES = {"fer2013": "FER-2013", "demo": "drawn demo faces"}
TYPES = {"accuracy": "accuracy", "macro-F1": "f1", "balanced accuracy": "balanced_accuracy"}
"""The metric of Hugging Face's that a score is."""

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
    """Write the card of a run that was trained. `score` is that of its last `scored` epochs, None
    without validation. Raises UserError if it cannot be written."""
    data = plan.data
    name = NAMES.get(data.name, data.name)
    tags = ["image-classification", "facial-emotion-recognition", data.name, "pytorch"]
    head: dict[str, Any] = {
        "tags": [*tags, "safetensors", *(["onnx"] if onnx else [])],
        "pipeline_tag": "image-classification",
        "metrics": ["accuracy", "f1"],
    }
    body = [
        f"# Emotions of faces: {name}",
        f"A convolutional network of {parameter_count(run.net):,} parameters that gives each of "
        f"{len(data.classes)} emotions a probability: {', '.join(data.classes)}.",
        "No license is given here: whoever publishes the model adds `license:` to the head of "
        "this file, and minds the terms of the data.",
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
    """Put a section into the card of a run, in place of one of that name; after the score.

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
    """Add the scores of a test split to the card of a run; False if it has none.

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
    """Precision, recall and F1 of each class, in Markdown."""
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
    images = f"{count:,} images to train on"
    if plan.config.oversample in data.classes:
        images += f", copies of {plan.config.oversample} among them"
    lines = [
        f"{NAMES.get(data.name, data.name)}, SHA-256 `{data.sha256}` of its training images, "
        "labels and class names.",
        f"{images}; "
        + (
            f"{len(validation):,} to validate on."
            if validation is not None
            else "those of validation among them, so there is no score of it."
        ),
    ]
    if data.subset is not None:
        lines.append(f"Only {data.subset:,} of its images were drawn, stratified.")
    if data.holdout is not None:
        lines.append(f"A share of {data.holdout:g} of them was held out for a study.")
    return "\n".join(lines)


def _protocol(plan: Plan, validation: Faces | None, scored: int) -> str:
    data, config, origin = plan.data, plan.config, plan.origin
    rows = {
        "validation": "none: trained on all images"
        if validation is None
        else f"{split_in_words(data.split, data.split_seed)}, 80 to 20, stratified",
        "seed": str(config.seed),
        "epochs": str(config.epochs),
        "scored": "nothing"
        if validation is None
        else f"the mean of epochs {config.epochs - scored + 1} to {config.epochs}; "
        "weights are of the last",
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
    """Where settings come from, in words."""
    where = f"of trial {origin.get('trial')} of study {origin.get('study')}"
    among = origin.get("chosen_among")
    known = origin.get("confirmed")
    confirmed = "confirmed" if known is True else "not confirmed" if known is False else ""
    more = ", ".join(each for each in (among and f"chosen among {among}", confirmed) if each)
    return _cell(f"{where}{f' ({more})' if more else ''}")


def _score(validation: Faces | None, score: metrics.Score | None, scored: int, last: Epoch) -> str:
    if validation is None or score is None:
        return (
            "No image was kept for validation, so there is no score. `fer.evaluate` adds that of "
            "a test split."
        )
    return "\n\n".join(
        [
            f"Validation accuracy **{score.value:.4f}** {_ends(score)}: the mean of the last "
            f"{scored} epochs, and its 95% interval over images. The noise of seeds is not in it. "
            "If these images had a part in choosing the settings, it flatters.",
            f"Of the last epoch, whose weights these are: macro-F1 {last.macro_f1:.4f}, balanced "
            f"accuracy {last.balanced_accuracy:.4f}, and by class:",
            class_table(last.confusion, validation.classes),
        ]
    )


def _use(plan: Plan, onnx: bool) -> str:
    classes = list(plan.data.classes)
    parts = [
        "The weights are in `model.safetensors`, which holds no code: "
        "`safetensors.torch.load_file` reads them by name. With the program that trained them, "
        "from pictures of any size to probabilities:",
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
            f"`{ONNX}` needs neither: it takes uint8 [batch, 48, 48], scales them itself and "
            "gives probabilities in float32; its metadata has the classes.",
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
    """A score as the head of a card has it."""
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
    """A card with scores in its head, in place of those of the same split."""
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
    """Of the model."""
    place = folder.resolve()
    parts = (place.parent.name, place.name) if place.name.startswith("seed-") else (place.name,)
    return "-".join(parts)


def _ends(score: metrics.Score) -> str:
    return f"[{score.low:.4f}, {score.high:.4f}]"


def _cell(text: str) -> str:
    """Text that ends no cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")
