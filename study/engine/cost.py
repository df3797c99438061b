"""Which trials may run concurrently on one device."""

from collections.abc import Sequence
from dataclasses import dataclass

from study.pipeline import Expense

CROWD = 2.0  # maximum total load of a device: more trials would only wait for each other
SPARE = 0.9  # usable share of the free memory


@dataclass(frozen=True)
class Demand:
    """Cost of a trial, and whether it must run alone."""

    cost: Expense
    alone: bool = False


def fits(
    demand: Demand, beside: Sequence[Demand], memory: int | None, crowd: float = CROWD
) -> bool:
    """Whether a trial can start next to running ones, given the free memory in bytes.

    It always can when nothing else runs: if it does not fit even then, it ends as out of memory.
    """
    if not beside:
        return True
    everyone = [demand, *beside]
    if any(each.alone for each in everyone):
        return False
    enough = memory is None or sum(each.cost.memory for each in everyone) <= SPARE * memory
    return enough and sum(each.cost.load for each in everyone) <= crowd
