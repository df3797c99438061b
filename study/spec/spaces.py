"""Built-in search spaces of FER-2013's network."""

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from study.pipeline import Only, Space

# Each optimizer has its own range, which the sampler must treat as a separate parameter.
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
            f"{name}_lr": Only("optimizer", name, "lr", FloatDistribution(*rates, log=True))
            for name, rates in LEARNING_RATES.items()
            if name in optimizers
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
    # Everything the report varied manually.
    "report": {
        **_space(["adam", "adamax", "sgd", "rmsprop", "adagrad", "asgd", "rprop"]),
        "conv_activation": CategoricalDistribution(["prelu", "relu"]),
        "norm": CategoricalDistribution(["batch", "none"]),
        "dropout": FloatDistribution(0.0, 0.6),
        "scaling": CategoricalDistribution(["zero-one", "minus-one-one"]),
        "mirror": CategoricalDistribution([True, False]),
        "oversample": CategoricalDistribution(["none", "disgust"]),
    },
    # More than the report varied; same network family, under a million parameters.
    "extended": {
        **_space(["adam", "adamw", "adamax", "sgd", "rmsprop", "adagrad"]),
        "batch_size": CategoricalDistribution([32, 64, 128, 256]),
        "fc_width": IntDistribution(32, 128, log=True),
        "sgd_momentum": Only("optimizer", "sgd", "momentum", FloatDistribution(0.0, 0.95)),
        "rmsprop_momentum": Only("optimizer", "rmsprop", "momentum", FloatDistribution(0.0, 0.9)),
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
