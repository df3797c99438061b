"""Training: a generator of epochs. This eager loop is the reference for every faster path."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn, optim
from torch.nn import functional as F

from fer import metrics
from fer.augment import augment, oversample, scale
from fer.config import Config
from fer.data import Faces
from fer.kernels import load
from fer.model import Net

CHECKED = 50  # steps between looks at the loss: a look waits for the device
# On a processor what fits its caches is fastest, on a GPU what fills it.
EVALUATION_BATCH = {"cpu": 64, "cuda": 2048}


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training images gave.

    `loss`, the scores and `confusion` (int64 [classes, classes], rows true) are those of the
    validation images. Losses of different output activations cannot be compared.
    """

    number: int  # from 1
    train_loss: float
    train_accuracy: float
    loss: float
    accuracy: float
    macro_f1: float
    balanced_accuracy: float
    confusion: metrics.Counts
    seconds: float

    @property
    def diverged(self) -> bool:
        """Whether a loss is no longer a finite number."""
        return not (np.isfinite(self.train_loss) and np.isfinite(self.loss))


class Run:
    """The random generators, network, optimizer and training images of one run, ready to fit.

    `trained` is the number of epochs it has behind it. Everything random is drawn from
    generators seeded with `config.seed`. Raises UserError if the configuration does not fit the
    data.
    """

    def __init__(self, config: Config, train: Faces, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.generator = torch.Generator().manual_seed(config.seed)
        # A second stream, since permutations and weights are drawn on the CPU in any case.
        self.device_generator = torch.Generator(device).manual_seed(config.seed + 1)
        kernels = load().library if device.type == "cpu" else None
        self.net = Net(config, len(train.classes), self.generator, self.device_generator, kernels)
        self.net.to(device)
        self.optimizer = make_optimizer(config, self.net)
        self.train = to_device(oversample(train, config, self.generator), device)
        self.trained = 0


def fit(run: Run, validation: Faces) -> Iterator[Epoch]:
    """Train `run.net` in place, yielding after each epoch; close it to stop early.

    Goes on after the `run.trained` epochs that the run has behind it. A loss that is no finite
    number ends the epoch and the training within CHECKED steps.
    """
    config, net, train = run.config, run.net, run.train
    validation = to_device(validation, run.device)
    for number in range(run.trained + 1, config.epochs + 1):
        start = time.perf_counter()
        order = torch.randperm(len(train), generator=run.generator).to(run.device)
        net.train()
        # Sums stay on the device: reading them every step would wait for the device.
        loss_sum = torch.zeros((), device=run.device)
        right = torch.zeros((), dtype=torch.int64, device=run.device)
        for i, batch in enumerate(batches(order, config.batch_size), start=1):
            images = scale(train.images[batch], config.scaling)
            images = augment(images, config, run.device_generator)
            labels = train.labels[batch]
            loss, scores = step(net, run.optimizer, images, labels)
            loss_sum += loss * len(labels)
            right += (scores.argmax(1) == labels).sum()
            if i % CHECKED == 0 and not loss_sum.isfinite():
                break  # it stays so: the weights are lost
        loss_validation, confusion = evaluate(net, validation, config.scaling)
        run.trained = number
        epoch = Epoch(
            number=number,
            train_loss=float(loss_sum) / len(train),
            train_accuracy=int(right) / len(train),
            loss=loss_validation,
            accuracy=metrics.accuracy(confusion),
            macro_f1=metrics.macro_f1(confusion),
            balanced_accuracy=metrics.balanced_accuracy(confusion),
            confusion=confusion,
            seconds=time.perf_counter() - start,
        )
        yield epoch
        if epoch.diverged:
            return


def step(
    net: nn.Module, optimizer: optim.Optimizer, images: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """One update; the loss and the scores [N, classes] before it, detached."""
    scores: Tensor = net(images)
    loss = F.cross_entropy(scores, labels)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.detach(), scores.detach()


def batches(order: Tensor, size: int) -> list[Tensor]:
    """`order` in parts of `size`; a last part of one image joins the part before it.

    Batch normalisation cannot learn from one image.
    """
    parts = list(torch.split(order, size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


@torch.no_grad()
def predict(net: nn.Module, images: Tensor, scaling: str) -> Tensor:
    """Scores [N, classes] of uint8 images [N, 48, 48] on the network's device."""
    net.eval()
    parts = torch.split(images, EVALUATION_BATCH[images.device.type])
    return torch.cat([net(scale(part, scaling)) for part in parts])


def evaluate(net: nn.Module, faces: Faces, scaling: str) -> tuple[float, metrics.Counts]:
    """Mean cross entropy and confusion counts of `faces`, which are on the network's device."""
    scores = predict(net, faces.images, scaling)
    classes = len(faces.classes)
    loss = float(F.cross_entropy(scores, faces.labels))
    cells = faces.labels * classes + scores.argmax(1)
    counts = torch.bincount(cells, minlength=classes * classes).view(classes, classes)
    return loss, counts.cpu().numpy()


def make_optimizer(config: Config, net: nn.Module) -> optim.Optimizer:
    """The update rule with PyTorch's defaults for what the Config does not set."""
    kinds: dict[str, type[optim.Optimizer]] = {
        "adam": optim.Adam,
        "adamax": optim.Adamax,
        "sgd": optim.SGD,
        "rmsprop": optim.RMSprop,
        "adagrad": optim.Adagrad,
        "asgd": optim.ASGD,
        "rprop": optim.Rprop,
    }
    decay = {} if config.optimizer == "rprop" else {"weight_decay": config.weight_decay}
    # One pass over all weights instead of a dozen for each tensor; the other rules have none.
    fused = {"fused": True} if config.optimizer in ("adam", "adagrad") else {}
    settings: dict[str, Any] = {"lr": config.lr, **decay, **fused}
    return kinds[config.optimizer](net.parameters(), **settings)


def to_device(faces: Faces, device: torch.device) -> Faces:
    """The same faces with their tensors on `device`."""
    return Faces(faces.images.to(device), faces.labels.to(device), faces.classes)
