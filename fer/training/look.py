"""What is looked at in the last epochs of a trial, beside what every epoch tells."""

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
    """A validation image that was said wrongly: its place, classes as numbers, and how sure."""

    case: int
    truth: int
    said: int
    sure: float  # softmax of the network's scores, 0..1


@dataclass(frozen=True)
class Looked(Epoch):
    """An epoch that was looked at more closely."""

    holdout: float = math.nan  # accuracy on the images held out
    mistakes: tuple[Mistake, ...] = ()  # the surest, of the last epoch


def look(
    run: Run, epoch: Epoch, held: Faces | None, validation: Faces, last: bool
) -> Iterator[Mark | Looked]:
    """The epoch with its accuracy on the images held out and, if it is the `last`, its mistakes.

    Images are on the run's device; nothing waits for it: after a Mark it goes on once that is
    reached. Draws nothing and leaves the network as it is.
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
    """Rows of case, truth, said and sureness, float64 [MISTAKES, 4], the surest first.

    Only cases that were `wrong` in the epoch, which may have seen some mirrored.
    """
    sure, said = scores.float().softmax(1).max(1)
    sure = torch.where(wrong & (said != labels), sure, -1.0)
    surest, cases = sure.sort(descending=True, stable=True)
    cases, surest = cases[:MISTAKES], surest[:MISTAKES]
    return torch.stack([each.double() for each in (cases, labels[cases], said[cases], surest)], 1)


def _listed(rows: Sequence[Sequence[float]]) -> Iterator[Mistake]:
    for case, truth, said, sure in rows:
        if sure >= 0:  # there may be fewer mistakes
            yield Mistake(int(case), int(truth), int(said), round(sure, 4))
