"""The report's settings, factors, claims and curves.

Only this file and `spaces` in `study` name optimizers and layers. Chapters and figures are those
of "Facial Emotion Recognition with Data Augmentation".
"""

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from fer.config import PRESETS as PRESETS
from fer.config import Config, read_config, write_yaml
from fer.errors import UserError
from study.pipeline import Settings

HAND_TUNED = "hand-tuned"
OWN = ("epochs", "seed", "precision", "threads")
"""Settings of a Config that the study sets for all its trials."""
# The report's final settings, then earlier ones shown in its figure 6a.
HAND_MADE: dict[str, Config] = {
    HAND_TUNED: PRESETS["hand-tuned"],
    "hand-made adamax": Config(optimizer="adamax", lr=0.0015),
    "hand-made adamax, sigmoid": Config(optimizer="adamax", lr=0.002, output_activation="sigmoid"),
    "hand-made adagrad": Config(optimizer="adagrad", lr=0.003),
    "hand-made sgd": Config(optimizer="sgd", lr=0.005),
    "hand-made rmsprop": Config(optimizer="rmsprop", lr=0.001),
    "hand-made asgd": Config(optimizer="asgd", lr=0.005),
    "hand-made rprop": Config(optimizer="rprop", lr=0.001),
    "hand-made rprop, slow": Config(optimizer="rprop", lr=0.0001),
}

# Settings known to work well with small networks on these images, as starting points.
RECIPES: dict[str, Config] = {
    "one-cycle recipe": Config(
        optimizer="adamw",
        lr=3e-3,
        schedule="one-cycle",
        weight_decay=5e-2,
        label_smoothing=0.1,
        batch_size=128,
        output_activation="none",
        rotation=10.0,
        zoom=0.1,
        crop_padding=4,
        erasing=0.2,
        dropout=0.3,
        channels1=48,
        channels2=64,
        channels3=96,
        fc_width=128,
        tta="mirror",
    ),
}

# The report's validation accuracy after each epoch (figures 5a and 5b).
FINAL = (
    *(0.4599, 0.5014, 0.5277, 0.5465, 0.5648, 0.5646, 0.5711, 0.5787, 0.5778, 0.5902),
    *(0.5911, 0.5913, 0.5909, 0.6034, 0.5895, 0.6012, 0.6064, 0.5987, 0.6000, 0.6034),
    *(0.6005, 0.6073, 0.6137, 0.6007, 0.6082, 0.6108, 0.6069, 0.6057, 0.6083, 0.6068),
)
CURVES: dict[str, dict[int, float]] = {
    name: dict(enumerate(accuracies, 1))
    for name, accuracies in {
        "baseline": [
            *(0.3817, 0.4087, 0.4248, 0.4361, 0.4509, 0.4687, 0.4746, 0.4716, 0.4822, 0.4911),
            *(0.4963, 0.4876, 0.5063, 0.5012, 0.5106, 0.5068, 0.5063, 0.5099, 0.5146, 0.5061),
        ],
        "hand-tuned": FINAL,
        "reproduction": FINAL,
        "reproduction-mirrored": FINAL,
    }.items()
}


@dataclass(frozen=True)
class Factor:
    """A setting that the report varied; `values` are changes of the base settings by label.

    The other values are compared with `control`, the report's choice.
    """

    title: str
    values: dict[str, Settings]
    control: str
    claim: str
    rivals: tuple[str, ...] = ()  # the values that the claim is about; empty for all others


# The report's rate (figure 6a) comes first, then rates around it.
RATES = {
    "adam": (2e-4, 5e-5, 1e-4, 5e-4, 1e-3, 2e-3),
    "adamax": (1.5e-3, 2e-4, 5e-4, 4e-3, 1e-2),
    "sgd": (5e-3, 1e-3, 2e-2, 1e-1, 5e-1),
    "rmsprop": (1e-3, 3e-5, 1e-4, 3e-4, 3e-3),
    "adagrad": (3e-3, 3e-4, 1e-3, 1e-2, 3e-2),
    "asgd": (5e-3, 1e-3, 2e-2, 1e-1, 5e-1),
    "rprop": (1e-3, 1e-5, 1e-4, 3e-4, 3e-3),
}
POOLINGS = list(product(("max", "average"), repeat=3))

UNALTERED = "as it is"
# Settings that an ablation resets together; an optimizer with all settings that belong to it.
OPTIMIZER = ("optimizer", "lr", "momentum", "weight_decay", "schedule")
PARTS = {
    "learning rate": ("lr",),
    "momentum": ("momentum",),
    "schedule": ("schedule",),
    "weight decay": ("weight_decay",),
    "label smoothing": ("label_smoothing",),
    "batch size": ("batch_size",),
    "widths": ("channels1", "channels2", "channels3", "fc_width"),
    "pooling": ("pool1", "pool2", "pool3"),
    "output": ("output_activation",),
    "activation": ("conv_activation",),
    "norm": ("norm",),
    "dropout": ("dropout",),
    "scaling": ("scaling",),
    "augmentation": ("mirror", "rotation", "crop_padding", "zoom", "erasing"),
    "oversampling": ("oversample", "copies"),
    "validation": ("mirror_validation",),
    "tta": ("tta",),
}

PLAIN = {"mirror": False, "rotation": 0.0, "crop_padding": 0, "zoom": 0.0, "erasing": 0.0}


def _of(field: str, *values: object) -> dict[str, Settings]:
    return {str(value): {field: value} for value in values}


FACTORS: dict[str, Factor] = {
    **{
        f"lr-{name}": Factor(
            f"learning rate of {name}",
            {f"{rate:g}": {"optimizer": name, "lr": rate} for rate in sorted(rates)},
            f"{rates[0]:g}",
            f"{rates[0]:g} is the learning rate of {name} to choose (figure 6a)",
        )
        for name, rates in RATES.items()
    },
    "optimizer": Factor(
        "optimizer, each at the report's rate",
        {name: {"optimizer": name, "lr": rates[0]} for name, rates in RATES.items()},
        "adam",
        "Adam with 0.0002 is the optimizer to choose (chapter 6)",
    ),
    "batch-size": Factor(
        "batch size",
        _of("batch_size", 8, 16, 32, 64, 128, 256),
        "32",
        "a batch of 32 is the most stable (figure 6c)",
    ),
    "fc-width": Factor(
        "units of the first dense layer",
        _of("fc_width", 18, 35, 70, 140, 280),
        "70",
        "70 units achieve better results (figure 6d)",
    ),
    "output": Factor(
        "output activation",
        _of("output_activation", "none", "tanh", "sigmoid", "softmax"),
        "tanh",
        "tanh is better than sigmoid and softmax (figure 6e)",
        ("sigmoid", "softmax"),
    ),
    "scaling": Factor(
        "scaling of the pixels",
        _of("scaling", "minus-one-one", "zero-one"),
        "minus-one-one",
        "-1 to 1 is better than 0 to 1 (figure 6e)",
    ),
    "pooling": Factor(
        "pooling of the three blocks",
        {
            "-".join(pools): dict(zip(("pool1", "pool2", "pool3"), pools, strict=True))
            for pools in POOLINGS
        },
        "max-max-average",
        "max, max, average is the most successful mix (figure 6f)",
    ),
    "activation": Factor(
        "activation of the convolutions",
        _of("conv_activation", "prelu", "relu", "elu", "silu"),
        "prelu",
        "PReLU is preferred to ReLU, it converges quicker (chapter 6)",
        ("relu",),
    ),
    "norm": Factor(
        "normalisation",
        _of("norm", "batch", "group", "none"),
        "batch",
        "batch normalisation is of benefit (chapter 6)",
        ("none",),
    ),
    "dropout": Factor(
        "dropout",
        _of("dropout", 0.0, 0.2, 0.35, 0.5),
        "0.0",
        "dropout slows convergence, none is used (chapter 6)",
    ),
    "augmentation": Factor(
        "augmentation",
        {
            "none": PLAIN,
            "mirror": {**PLAIN, "mirror": True},
            "rotation": {**PLAIN, "rotation": 10.0},
            "crop": {**PLAIN, "crop_padding": 4},
            "mirror, rotation, crop": {
                **PLAIN,
                "mirror": True,
                "rotation": 10.0,
                "crop_padding": 4,
            },
        },
        "mirror",
        "the horizontal flip is the most effective augmentation (chapter 3)",
        ("none", "rotation", "crop"),
    ),
    "oversampling": Factor(
        "oversampling of disgust",
        _of("oversample", "disgust", "none"),
        "disgust",
        "more images of disgust improve the model (chapters 1 and 3)",
    ),
    "tta": Factor(
        "views averaged at evaluation",
        _of("tta", "none", "mirror", "ten-crop"),
        "none",
        "ten-crop is worse than one view, it was not kept (figure 3a)",
        ("ten-crop",),
    ),
    "ablation": Factor("reset to the report's value", {}, UNALTERED, ""),
    "seed": Factor("seed alone", {UNALTERED: {}}, "", ""),
}


def values_of(name: str, base: Config) -> dict[str, Settings]:
    """Return the values of a factor with these settings. Raise UserError if there are none."""
    if name != "ablation":
        return FACTORS[name].values
    report = PRESETS[HAND_TUNED].settings()
    ours = base.settings()
    parts = PARTS
    if ours["optimizer"] != report["optimizer"]:
        parts = {"optimizer": OPTIMIZER, **PARTS}
        del parts["learning rate"]  # rates of different optimizers are not comparable
    groups = {
        part: {field: report[field] for field in fields if ours[field] != report[field]}
        for part, fields in parts.items()
    }
    found = {part: changes for part, changes in groups.items() if changes}
    if not found:
        raise UserError("--vary ablation needs a --config that differs from the report's settings")
    return {UNALTERED: {}, **found}


def settings_from(file: Path | None, preset: str | None) -> tuple[str, Config]:
    """Return name and settings of a file, a preset, or the report. May raise UserError."""
    if file is not None:
        return file.stem, read_config(file)
    name = preset or HAND_TUNED
    return name, PRESETS[name]


def changes_of(config: Config) -> dict[str, Any]:
    """Return the settings in which `config` differs from the report's final ones."""
    report = PRESETS[HAND_TUNED].settings()
    return {key: value for key, value in config.settings().items() if value != report[key]}


def described(settings: Settings) -> str:
    """Return the name of the preset with these settings, or their changes of the hand-tuned
    ones."""
    names: dict[str, dict[str, Any]] = {}
    for name, preset in PRESETS.items():
        theirs = preset.settings()
        names[name] = {
            key: value
            for key, value in settings.items()
            if key in theirs and key not in OWN and theirs[key] != value
        }
        if not names[name]:
            return name
    shown = (
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in names[HAND_TUNED].items()
    )
    return ", ".join(shown)


def write_settings(settings: Settings, path: Path) -> None:
    """Write settings to a file for `--config`."""
    write_yaml({"config": Config(**settings).settings()}, path)
