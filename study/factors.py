"""What the report varied by hand (chapters 3 and 6), the values tried here, and its claims."""

from dataclasses import dataclass
from itertools import product

from fer.config import PRESETS, Config
from fer.errors import UserError
from study.question import Changes


@dataclass(frozen=True)
class Factor:
    """Changes of the base settings by the name of the value, the others are compared with
    `control`: what the report chose."""

    title: str
    values: dict[str, Changes]
    control: str
    claim: str
    rivals: tuple[str, ...] = ()  # the values that the claim is about; all others if none is named


# Around the report's rate (figure 6a), which comes first here.
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
# What belongs together when settings are set back; another optimizer with all that is its own.
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
    "oversampling": ("oversample",),
    "tta": ("tta",),
}

PLAIN = {"mirror": False, "rotation": 0.0, "crop_padding": 0, "zoom": 0.0, "erasing": 0.0}


def _of(field: str, *values: object) -> dict[str, Changes]:
    return {str(value): {field: value} for value in values}


FACTORS: dict[str, Factor] = {
    **{
        f"lr-{name}": Factor(
            f"learning rate of {name}",
            {f"{rate:g}": {"optimizer": name, "lr": rate} for rate in sorted(rates)},
            f"{rates[0]:g}",
            f"{name} was used with a learning rate of {rates[0]:g} (figure 6a)",
        )
        for name, rates in RATES.items()
    },
    "optimizer": Factor(
        "optimizer, each at the report's rate",
        {name: {"optimizer": name, "lr": rates[0]} for name, rates in RATES.items()},
        "adam",
        "Adam with 0.0002 was chosen among the optimizers (chapter 6)",
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
        "ten-crop was tried and not kept (figure 3a)",
        ("ten-crop",),
    ),
    "ablation": Factor("set back to the report's", {}, UNALTERED, ""),
    "seed": Factor("seed alone", {UNALTERED: {}}, "", ""),
}


def values_of(name: str, base: Config) -> dict[str, Changes]:
    """What a factor tries with these settings. Raises UserError if there is nothing."""
    if name != "ablation":
        return FACTORS[name].values
    report = PRESETS["hand-tuned"].settings()
    ours = base.settings()
    parts = PARTS
    if ours["optimizer"] != report["optimizer"]:
        parts = {"optimizer": OPTIMIZER, **PARTS}
        del parts["learning rate"]  # another optimizer's says nothing of this one
    groups = {
        part: {field: report[field] for field in fields if ours[field] != report[field]}
        for part, fields in parts.items()
    }
    found = {part: changes for part, changes in groups.items() if changes}
    if not found:
        raise UserError("--vary ablation needs a --config that differs from the report's settings")
    return {UNALTERED: {}, **found}
