"""What a study searches, and the report's hand-made settings as its first trials."""

import json
from collections.abc import Iterator
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)

from fer.config import PRESETS, Config

Space = dict[str, BaseDistribution]
"""A distribution for each parameter; `NAME_lr` and the like belong to the optimizer NAME alone."""

# Every optimizer has learning rates of its own, and the sampler must know them apart.
LEARNING_RATES = {
    "adam": (1e-5, 1e-2),
    "adamw": (1e-4, 1e-2),
    "adamax": (5e-5, 2e-2),
    "sgd": (1e-3, 1.0),
    "rmsprop": (1e-5, 1e-2),
    "adagrad": (1e-4, 1e-1),
    "asgd": (1e-3, 1.0),
    "rprop": (1e-5, 1e-2),
}


def _space(optimizers: list[str]) -> Space:
    pooling = CategoricalDistribution(["max", "average"])
    return {
        "optimizer": CategoricalDistribution(optimizers),
        **{
            f"{name}_lr": FloatDistribution(*LEARNING_RATES[name], log=True) for name in optimizers
        },
        "batch_size": CategoricalDistribution([16, 32, 64, 128, 256]),
        "fc_width": IntDistribution(16, 256, log=True),
        "pool1": pooling,
        "pool2": pooling,
        "pool3": pooling,
        "output_activation": CategoricalDistribution(["none", "tanh", "sigmoid", "softmax"]),
    }


SPACES: dict[str, Space] = {
    "default": _space(["adam", "adamax", "sgd", "rmsprop", "adagrad"]),
    # Everything the report varied by hand.
    "report": {
        **_space(["adam", "adamax", "sgd", "rmsprop", "adagrad", "asgd", "rprop"]),
        "conv_activation": CategoricalDistribution(["prelu", "relu"]),
        "norm": CategoricalDistribution(["batch", "none"]),
        "dropout": FloatDistribution(0.0, 0.6),
        "scaling": CategoricalDistribution(["zero-one", "minus-one-one"]),
        "mirror": CategoricalDistribution([True, False]),
        "oversample": CategoricalDistribution(["none", "disgust"]),
    },
    # Beyond the report, with the same family of network and less than a million parameters.
    "extended": {
        **_space(["adam", "adamw", "adamax", "sgd", "rmsprop", "adagrad"]),
        "batch_size": CategoricalDistribution([32, 64, 128, 256]),
        "fc_width": IntDistribution(32, 128, log=True),
        "sgd_momentum": FloatDistribution(0.0, 0.95),
        "rmsprop_momentum": FloatDistribution(0.0, 0.9),
        "weight_decay": CategoricalDistribution([0.0, 1e-5, 1e-4, 1e-3, 1e-2, 5e-2]),
        "label_smoothing": FloatDistribution(0.0, 0.2),
        "schedule": CategoricalDistribution(["constant", "cosine", "one-cycle"]),
        "crop_padding": IntDistribution(0, 6),
        "rotation": FloatDistribution(0.0, 20.0),
        "zoom": FloatDistribution(0.0, 0.2),
        "erasing": FloatDistribution(0.0, 0.5),
        "dropout": FloatDistribution(0.0, 0.5),
        "conv_activation": CategoricalDistribution(["prelu", "relu", "elu", "silu"]),
        "norm": CategoricalDistribution(["batch", "group", "none"]),
        "channels1": IntDistribution(16, 64, step=4),
        "channels2": IntDistribution(16, 96, step=4),
        "channels3": IntDistribution(16, 96, step=4),
        "oversample": CategoricalDistribution(["none", "disgust"]),
        "tta": CategoricalDistribution(["none", "mirror"]),
    },
}

HAND_TUNED = "hand-tuned"
# The report's final settings, then what its figure 6a kept of its earlier ones.
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

# What is known to do well with small networks on these images, for a search to begin with.
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


def suggest(trial: optuna.Trial, space: Space, base: Config) -> Config:
    """The Config of a trial: `base` with what the space varies.

    Unconditional parameters come first, so that a joint sampler sees them in every trial.
    """
    values = {
        name: _draw(trial, name, distribution)
        for name, distribution in space.items()
        if name in Config.model_fields
    }
    for name, distribution in space.items():
        optimizer, _, field = name.partition("_")
        if name not in Config.model_fields and optimizer == values["optimizer"]:
            values[field] = _draw(trial, name, distribution)
    return Config(**{**base.settings(), **values})


def _draw(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    match distribution:
        case CategoricalDistribution():
            return trial.suggest_categorical(name, distribution.choices)
        case IntDistribution():
            return trial.suggest_int(
                name,
                distribution.low,
                distribution.high,
                step=distribution.step,
                log=distribution.log,
            )
        case FloatDistribution():
            return trial.suggest_float(
                name, distribution.low, distribution.high, log=distribution.log
            )
    raise TypeError(f"no such kind of parameter: {distribution}")


def examples(space: Space, base: Config, seed: int) -> list[Config]:
    """A Config for each batch size in `space`, the rest drawn at random."""
    sampler = optuna.samplers.RandomSampler(seed=seed)
    study = optuna.create_study(sampler=sampler)
    sizes = space["batch_size"]
    assert isinstance(sizes, CategoricalDistribution)
    for size in sizes.choices:
        study.enqueue_trial({"batch_size": size})
    return [suggest(study.ask(), space, base) for _ in sizes.choices]


def hand_made(space: Space) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and parameters of the report's settings that lie in `space`, the final ones first;
    then the recipes, where the space has what they need."""
    optimizers = space["optimizer"]
    assert isinstance(optimizers, CategoricalDistribution)
    recipes = RECIPES if "schedule" in space else {}
    for name, config in {**HAND_MADE, **recipes}.items():
        if config.optimizer in optimizers.choices:
            settings = config.settings()
            parameters = {
                key: settings[key.removeprefix(f"{config.optimizer}_")]
                for key in space
                if key in settings or key.startswith(f"{config.optimizer}_")
            }
            yield name, parameters


def describe(space: Space) -> dict[str, Any]:
    """The space as plain types, to be stored and compared."""
    return {name: json.loads(distribution_to_json(kind)) for name, kind in space.items()}
