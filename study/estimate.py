"""What a trial will take, told from its settings alone: time, a GPU's memory and attention.

These decide in which order epochs are reported and which trials run beside each other. They are
rough, but they never depend on timing: a study with one seed repeats.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fer.config import Config
from fer.network.model import features
from fer.training.fit import EVALUATION_BATCH

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
CROWD = 2.0  # trials as busy as that to run at once: more would only wait for each other
SPARE = 0.9  # of the free memory


def work(config: Config) -> float:
    """Multiplications of the convolutions for an image, against those of the report's network."""
    one, two, three = config.channels1, config.channels2, config.channels3
    first, second, third = 46**2 * 25 * one, 20**2 * 25 * one * two, 9**2 * 9 * two * three
    return (first + second + third) / 20_977_360


@dataclass(frozen=True)
class Demand:
    """What a trial wants of a GPU: bytes, and how much of its time. `alone`: all of it."""

    memory: float
    load: float
    alone: bool = False


@dataclass(frozen=True)
class Estimate:
    """Of trials on so many images, on a kind of device. `crowd` bounds the load of one GPU."""

    images: int
    validation: int
    device: str  # "cpu" or "cuda"
    crowd: float = CROWD

    def epoch_seconds(self, config: Config) -> float:
        """About what an epoch takes, in seconds of a device that has nothing else to do."""
        step, image = PACE[self.device]
        return self.images * (step / config.batch_size + image * work(config))

    def demand(self, config: Config, alone: bool = False) -> Demand:
        """What the trial wants of a GPU."""
        evaluated = min(self.validation, EVALUATION_BATCH["cuda"])
        computed = (
            STEP_BYTES[config.precision] * config.batch_size
            + EVALUATION_BYTES[config.precision] * evaluated
        )
        computed *= config.channels1 / 44
        images = self.images * (IMAGE_BYTES + (features(config) if config.dropout else 0))
        memory = RUN_BYTES + COPIES * computed + images
        return Demand(memory, min(1.0, config.batch_size / BUSY_BATCH), alone)

    def fits(self, demand: Demand, beside: Sequence[Demand], memory: int | None) -> bool:
        """Whether a trial can begin beside those that run, on a GPU with so much memory free.

        Where nothing runs it can: if it does not fit even then, it ends as out of memory.
        """
        if not beside:
            return True
        if demand.alone or any(other.alone for other in beside):
            return False
        everyone = [demand, *beside]
        enough = memory is None or sum(each.memory for each in everyone) <= SPARE * memory
        return enough and sum(each.load for each in everyone) <= self.crowd
