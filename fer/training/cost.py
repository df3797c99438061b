"""What a training will take, told from its settings alone: time, a GPU's memory and attention.

A study orders and admits its trials by these. They are rough, but they never depend on timing: a
study with one seed repeats.
"""

from dataclasses import dataclass

from fer.config import Config
from fer.network.model import features
from fer.training.evaluation import EVALUATION_BATCH

# Seconds a step and an image: on a thread of a Zen 4 core, and what a GPU's launches and memory
# would allow.
PACE = {"cpu": (3.5e-3, 1.05e-3), "cuda": (2e-4, 1e-6)}
# Bytes an image in a batch, from the sizes of the tensors that a step or an evaluation holds at
# its worst; the first convolution's output of 93,104 numbers is most of it.
STEP_BYTES = {"bfloat16": 1.6e6, "float32": 3.0e6}
EVALUATION_BYTES = {"bfloat16": 0.5e6, "float32": 1.0e6}
RUN_BYTES = 2e8  # weights, optimizer, workspaces of the libraries
IMAGE_BYTES = 48 * 48
COPIES = 2  # of a step's tensors: those of called steps and those of graphs
# A batch of this size keeps a GPU busy by itself, and one of a sixteenth a sixteenth of the time.
BUSY_BATCH = 256


def work(config: Config) -> float:
    """Multiplications of the convolutions for an image, against those of the report's network."""
    one, two, three = config.channels1, config.channels2, config.channels3
    first, second, third = 46**2 * 25 * one, 20**2 * 25 * one * two, 9**2 * 9 * two * three
    return (first + second + third) / 20_977_360


@dataclass(frozen=True)
class Cost:
    """Seconds of an epoch on a device that has nothing else to do, bytes of a GPU's memory, and
    the share of its time (0..1) that the training would keep it busy."""

    seconds: float
    memory: float
    load: float


def computed_bytes(config: Config, validation: int = EVALUATION_BATCH["cuda"]) -> float:
    """What the tensors of a step and of an evaluation of so many images take on a GPU."""
    precision = "bfloat16" if config.precision == "bfloat16" else "float32"
    evaluated = min(validation, EVALUATION_BATCH["cuda"])
    step = STEP_BYTES[precision] * config.batch_size
    return (step + EVALUATION_BYTES[precision] * evaluated) * (config.channels1 / 44)


def cost_of(config: Config, images: int, validation: int, device: str) -> Cost:
    """What a training takes on so many images, on a "cpu" or a "cuda" device."""
    step, image = PACE[device]
    seconds = images * (step / config.batch_size + image * work(config))
    computed = computed_bytes(config, validation)
    held = images * (IMAGE_BYTES + (features(config) if config.dropout else 0))
    memory = RUN_BYTES + COPIES * computed + held
    return Cost(seconds, memory, load=min(1.0, config.batch_size / BUSY_BATCH))
