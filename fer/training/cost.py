"""Estimate the time, GPU memory and GPU load of a training run from its settings alone.

A study orders and admits its trials by these estimates. They are rough, but never depend on
timing, so that a study with the same seed is repeatable.
"""

from dataclasses import dataclass

from fer.config import Config
from fer.network.model import features
from fer.training.evaluation import EVALUATION_BATCH

# Seconds per step and per image: on one thread of a Zen 4 core; on a GPU, the bound given by
# launches and memory bandwidth.
PACE = {"cpu": (3.5e-3, 1.05e-3), "cuda": (2e-4, 1e-6)}
# Peak bytes per image of a batch in a training step or an evaluation, from tensor sizes; most of
# it is the first convolution's output of 93,104 numbers.
STEP_BYTES = {"bfloat16": 1.6e6, "float32": 3.0e6}
EVALUATION_BYTES = {"bfloat16": 0.5e6, "float32": 1.0e6}
RUN_BYTES = 2e8  # weights, optimizer, library workspaces
IMAGE_BYTES = 48 * 48
COPIES = 2  # of a step's tensors: for eager steps and for graphs
# A batch of this size saturates a GPU; smaller ones load it in proportion.
BUSY_BATCH = 256


def work(config: Config) -> float:
    """Return the convolutions' multiplications per image, relative to the report's network."""
    one, two, three = config.channels1, config.channels2, config.channels3
    first, second, third = 46**2 * 25 * one, 20**2 * 25 * one * two, 9**2 * 9 * two * three
    return (first + second + third) / 20_977_360


@dataclass(frozen=True)
class Cost:
    """Seconds of an epoch on an otherwise idle device, bytes of GPU memory, and the share of the
    GPU's time (0..1) that the run would use."""

    seconds: float
    memory: float
    load: float


def computed_bytes(config: Config, validation: int = EVALUATION_BATCH["cuda"]) -> float:
    """Return the GPU bytes of a step, and of an evaluation of `validation` images."""
    precision = "bfloat16" if config.precision == "bfloat16" else "float32"
    evaluated = min(validation, EVALUATION_BATCH["cuda"])
    step = STEP_BYTES[precision] * config.batch_size
    return (step + EVALUATION_BYTES[precision] * evaluated) * (config.channels1 / 44)


def cost_of(config: Config, images: int, validation: int, device: str) -> Cost:
    """Estimate a run on `images` images and `validation` ones, on "cpu" or "cuda"."""
    step, image = PACE[device]
    seconds = images * (step / config.batch_size + image * work(config))
    computed = computed_bytes(config, validation)
    held = images * (IMAGE_BYTES + (features(config) if config.dropout else 0))
    memory = RUN_BYTES + COPIES * computed + held
    return Cost(seconds, memory, load=min(1.0, config.batch_size / BUSY_BATCH))
