"""Training: a generator of epochs. Step by step it is the reference for every faster path."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn, optim
from torch.nn import functional as F

from fer.config import Config
from fer.data import Faces
from fer.network.kernels import kernels_for
from fer.network.model import Net
from fer.training import metrics
from fer.training.augment import augment, oversample, scale
from fer.training.cost import computed_bytes
from fer.training.draws import make_draws, redraw
from fer.training.evaluation import Validation, evaluate
from fer.training.launch import Launcher, open_stream
from fer.training.optimizers import make_optimizer
from fer.training.schedule import rates
from fer.training.stream import REACHED, Mark, Stream


@dataclass(frozen=True)
class Epoch:
    """Results of one pass over the training images.

    `loss`, the scores and `confusion` (int64 [classes, classes], rows are true classes) refer to
    the validation images. Losses of different output activations are not comparable.
    """

    number: int  # from 1
    train_loss: float  # including label smoothing
    train_accuracy: float
    loss: float
    accuracy: float
    macro_f1: float
    balanced_accuracy: float
    confusion: metrics.Counts
    seconds: float
    right: bytes  # numpy.packbits: which validation images were predicted right, in order

    @property
    def score(self) -> float:
        """The score that a study maximises: the validation accuracy."""
        return self.accuracy

    @property
    def values(self) -> dict[str, float]:
        """Other values that a study stores and shows."""
        return {
            "macro_f1": self.macro_f1,
            "balanced_accuracy": self.balanced_accuracy,
            "loss": self.loss,
            "train_loss": self.train_loss,
            "train_accuracy": self.train_accuracy,
        }

    @property
    def diverged(self) -> bool:
        """Whether a loss is NaN or infinite."""
        return not (np.isfinite(self.train_loss) and np.isfinite(self.loss))


class Run:
    """The random generators, network, optimizer and training images of one run, ready to fit.

    `trained` is the number of epochs already trained. Everything random is drawn from generators
    seeded with `config.seed`. Work is queued on `stream`, by default a new one. A `plain` run uses
    only PyTorch's own kernels.
    """

    def __init__(
        self,
        config: Config,
        train: Faces,
        device: torch.device,
        stream: Stream | None = None,
        plain: bool = False,
    ) -> None:
        self.config = config
        self.device = device
        self.trained = 0
        self.launcher = Launcher(stream or open_stream(device), computed_bytes(config))
        self.generator = torch.Generator().manual_seed(config.seed)
        # Separate from the CPU generator, which draws permutations and weights on every device.
        self.device_generator = torch.Generator(device).manual_seed(config.seed + 1)
        # Separate, so that mirroring validation images does not change training.
        self.validation_generator = torch.Generator(device).manual_seed(config.seed + 2)
        kernels = None if plain else kernels_for(device).library
        with self.launcher.stream.active():
            self.net = Net(config, len(train.classes), self.generator, kernels).to(device)
            self.optimizer = make_optimizer(config, self.net)
            self.train = oversample(to_device(train, device), config, self.generator)
            # Updated in place: CUDA graphs hold the addresses of what steps read and add up.
            self.draws = make_draws(config, len(self.train), device)
            steps = sum(times for _, times in parts(len(self.train), config.batch_size, 1))
            scheduled = config.schedule != "constant"
            self.rates = torch.zeros(steps, device=device) if scheduled else None
            self.offsets = torch.arange(config.batch_size + 1, device=device)
            self.place = torch.zeros((), dtype=torch.int64, device=device)
            self.loss_sum = torch.zeros((), device=device)
            self.right = torch.zeros((), dtype=torch.int64, device=device)
            self.scores = torch.zeros(
                3 + len(train.classes) ** 2, dtype=torch.float64, device=device
            )
            self.step = step
            if self.net.fused is not None:
                from fer.training import gpu_step

                self.step, self.levels = gpu_step.step, gpu_step.levels_of(self)
        pinned = device.type == "cuda"  # for asynchronous copies
        # Used in turn, because several parts of an epoch are in flight at once.
        ahead = self.launcher.stream.ahead
        self.losses_seen = [torch.zeros((), pin_memory=pinned) for _ in range(ahead)]
        self.scores_seen = torch.zeros_like(self.scores, device="cpu", pin_memory=pinned)

    def begin_epoch(self) -> None:
        """Draw the epoch's random numbers and reset its counters."""
        with self.launcher.stream.active():
            redraw(self.draws, self.config, self.generator, self.device_generator)
            if self.rates is not None:
                of_steps = rates(self.config, self.trained + 1, len(self.rates))
                self.rates.copy_(torch.tensor(of_steps))
            for counter in (self.place, self.loss_sum, self.right):
                counter.zero_()
        self.net.train()

    def set_rate(self) -> None:
        """Set the learning rate of the next step, if there is a schedule."""
        if self.rates is not None:
            number = (self.place // self.config.batch_size).view(1)  # a 0-d index would sync
            self.optimizer.param_groups[0]["lr"].copy_(self.rates[number].squeeze())

    def mark(self, seen: Tensor, source: Tensor) -> Mark:
        """Copy `source` to `seen` on the host; the mark is reached when it has arrived."""
        with self.launcher.stream.active():
            seen.copy_(source, non_blocking=True)
            return self.launcher.stream.mark()


def fit(run: Run, validation: Faces) -> Iterator[Epoch]:
    """Train `run.net` in place, yielding after each epoch; close the generator to stop early.

    Resumes after the `run.trained` epochs already trained. A NaN or infinite loss ends the epoch
    and the training within 64 steps.
    """
    for item in progress(run, validation):
        if isinstance(item, Epoch):
            yield item
        else:
            item.synchronize()


def together(trainings: Sequence[Iterator[Epoch | Mark]]) -> Iterator[tuple[int, Epoch]]:
    """Yield the epochs of several `progress` as they finish, all driven by the calling thread."""
    waiting: dict[int, Mark | None] = dict.fromkeys(range(len(trainings)))
    while waiting:
        for i, mark in list(waiting.items()):
            if mark is not None and not mark.query():
                continue
            item = next(trainings[i], None)
            if item is None:
                del waiting[i]
            elif isinstance(item, Epoch):
                waiting[i] = None
                yield i, item
            else:
                waiting[i] = item


def progress(run: Run, validation: Faces) -> Iterator[Epoch | Mark]:
    """Like `fit`, but never blocks: yields a Mark, and is to be resumed once that is reached."""
    config, train, launcher = run.config, run.train, run.launcher
    ahead = launcher.stream.ahead
    with launcher.stream.active():
        seen = Validation(to_device(validation, run.device), config)
    for number in range(run.trained + 1, config.epochs + 1):
        start = time.perf_counter()
        run.begin_epoch()
        under_way: deque[Mark] = deque()
        launches = parts(len(train), config.batch_size, launcher.stream.steps_at_once)
        for i, (size, times) in enumerate(launches):
            for turn, count in enumerate(launcher.turns(("step", size), times)):
                if turn:
                    yield REACHED
                launcher.launch(("step", size), partial(run.step, run, size), count)
            under_way.append(run.mark(run.losses_seen[i % ahead], run.loss_sum))
            if len(under_way) == ahead:
                yield under_way.popleft()  # the device has more parts queued meanwhile
                if not run.losses_seen[(i + 1) % ahead].isfinite():
                    break  # permanent: the weights are NaN or infinite
        with launcher.stream.active():
            seen.redraw(run.validation_generator)
        launcher.launch("evaluate", partial(score, run, seen))
        with launcher.stream.active():
            seen.right_seen.copy_(seen.right, non_blocking=True)
        yield run.mark(run.scores_seen, run.scores)
        loss_sum, right, loss, *counts = run.scores_seen.tolist()
        classes = len(train.classes)
        confusion = np.array(counts, dtype=np.int64).reshape(classes, classes)
        run.trained = number
        epoch = Epoch(
            number=number,
            train_loss=loss_sum / len(train),
            train_accuracy=right / len(train),
            loss=loss,
            accuracy=metrics.accuracy(confusion),
            macro_f1=metrics.macro_f1(confusion),
            balanced_accuracy=metrics.balanced_accuracy(confusion),
            confusion=confusion,
            seconds=time.perf_counter() - start,
            right=np.packbits(seen.right_seen.numpy()).tobytes(),
        )
        yield epoch
        if epoch.diverged:
            return


def parts(count: int, size: int, at_once: int) -> list[tuple[int, int]]:
    """Split `count` images into launches: pairs of batch size and number of steps.

    A last batch of one image is merged into the one before it: batch normalisation needs two.
    """
    whole, rest = divmod(count, size)
    if rest == 1 and whole:
        whole, rest = whole - 1, size + 1
    launches = [(size, at_once)] * (whole // at_once) + [(size, whole % at_once), (rest, 1)]
    return [(size, times) for size, times in launches if size and times]


def step(run: Run, size: int) -> None:
    """Train on the next `size` images of the epoch."""
    config = run.config
    run.set_rate()
    drawn = run.draws.at(run.place + run.offsets[:size])
    labels = run.train.labels[drawn.order]
    images = augment(scale(run.train.images[drawn.order], config.scaling), config, drawn)
    loss, scores = update(
        run.net, run.optimizer, images, labels, drawn.kept, config.label_smoothing
    )
    run.loss_sum += loss * size
    run.right += (scores.argmax(1) == labels).sum()
    run.place += size


def update(
    net: nn.Module,
    optimizer: optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    kept: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Train on a batch; return its loss and scores [N, classes] before the update, detached."""
    scores: Tensor = net(images, kept)
    loss = F.cross_entropy(scores, labels, label_smoothing=label_smoothing)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.detach(), scores.detach()


def score(run: Run, validation: Validation) -> None:
    """Store an epoch's results in `run.scores`: the sums of training losses and of right
    predictions, then loss and confusion of the validation images. Also sets `validation.right`."""
    loss, confusion, right = evaluate(run.net, validation.shown(), run.config)
    numbers = [run.loss_sum, run.right, loss, confusion]
    torch.cat([number.double().flatten() for number in numbers], out=run.scores)
    validation.right.copy_(right)


def to_device(faces: Faces, device: torch.device) -> Faces:
    """Return the faces with their tensors on `device`."""
    return Faces(faces.images.to(device), faces.labels.to(device), faces.classes)
