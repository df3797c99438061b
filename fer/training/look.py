"""Extra results of the last epochs of a trial: held-out accuracy and the worst mistakes."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch

from fer.data import Faces
from fer.training.evaluation import predict
from fer.training.fit import Epoch, Run
from fer.training.stream import Mark

MISTAKES = 12


@dataclass(frozen=True)
class Mistake:
    """A misclassified validation image: its index, true and predicted class, and confidence."""

    case: int
    truth: int
    said: int
    sure: float  # softmax of the network's scores, 0..1


@dataclass(frozen=True)
class Looked(Epoch):
    """An epoch with extra results."""

    holdout: float = math.nan  # accuracy on the held-out images
    mistakes: tuple[Mistake, ...] = ()  # the most confident ones, of the last epoch


def look(
    run: Run, epoch: Epoch, held: Faces | None, validation: Faces, last: bool
) -> Iterator[Mark | Looked]:
    """Yield the epoch with its accuracy on the held-out images and, if `last`, its mistakes.

    Images must be on the run's device. Never blocks: yields a Mark, and is to be resumed once that
    is reached. Draws no random numbers and does not change the network.
    """
    holdout = math.nan
    mistakes: tuple[Mistake, ...] = ()
    if held is not None:
        with run.launcher.stream.active(), torch.no_grad():
            right = (predict(run.net, held.images, run.config).argmax(1) == held.labels).sum()
            seen = torch.zeros_like(right, device="cpu", pin_memory=right.is_cuda)
        yield run.mark(seen, right)
        holdout = int(seen) / len(held)
    if last:
        with run.launcher.stream.active(), torch.no_grad():
            wrong = ~torch.from_numpy(np.unpackbits(np.frombuffer(epoch.right, np.uint8))).bool()
            wrong = wrong[: len(validation)].to(validation.labels.device)
            scores = predict(run.net, validation.images, run.config)
            found = _mistakes(scores, validation.labels, wrong)
            rows = torch.zeros_like(found, device="cpu", pin_memory=found.is_cuda)
        yield run.mark(rows, found)
        mistakes = tuple(_listed(rows.tolist()))
    whole = {field.name: getattr(epoch, field.name) for field in fields(Epoch)}
    yield Looked(**whole, holdout=holdout, mistakes=mistakes)


def _mistakes(scores: torch.Tensor, labels: torch.Tensor, wrong: torch.Tensor) -> torch.Tensor:
    """Return case, true class, prediction and confidence, float64 [MISTAKES, 4], surest first.

    Only cases that were also `wrong` in the epoch, which may have mirrored some.
    """
    sure, said = scores.float().softmax(1).max(1)
    sure = torch.where(wrong & (said != labels), sure, -1.0)
    surest, cases = sure.sort(descending=True, stable=True)
    cases, surest = cases[:MISTAKES], surest[:MISTAKES]
    return torch.stack([each.double() for each in (cases, labels[cases], said[cases], surest)], 1)


def _listed(rows: Sequence[Sequence[float]]) -> Iterator[Mistake]:
    for case, truth, said, sure in rows:
        if sure >= 0:  # -1 fills the rows if there are fewer mistakes
            yield Mistake(int(case), int(truth), int(said), round(sure, 4))
