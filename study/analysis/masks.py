"""Masks of the validation cases that a run classified correctly: base64 of numpy.packbits."""

import base64
import math

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from study.storage.records import Result


def unpacked(mask: str, cases: int = 0) -> NDArray[np.float64]:
    """Return which of the `cases` [N] were correct, 0 or 1; with 0, of all bits of the mask."""
    bits = np.unpackbits(np.frombuffer(base64.b64decode(mask), np.uint8))
    return bits[: cases or None].astype(np.float64)


def cases_of(trial: FrozenTrial, result: Result) -> int:
    """Return how many validation cases a trial's mask has without its up to seven padding bits;
    0 without a mask.

    That is known if the last epoch's score is the share of correct cases; else all bits count.
    """
    bits = unpacked(result.right)
    last = trial.intermediate_values.get(max(trial.intermediate_values, default=0), math.nan)
    for cases in range(max(0, bits.size - 7), bits.size):
        if math.isclose(bits.sum(), last * cases, abs_tol=1e-6):
            return cases
    return bits.size
