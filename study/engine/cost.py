"""Which trials may run beside each other on one device."""

from collections.abc import Sequence
from dataclasses import dataclass

from study.pipeline import Expense

CROWD = 2.0  # trials that keep a device busy to run at once: more would only wait for each other
SPARE = 0.9  # of the free memory


@dataclass(frozen=True)
class Demand:
    """What a trial takes, and whether it must run alone."""

    cost: Expense
    alone: bool = False


def fits(
    demand: Demand, beside: Sequence[Demand], memory: int | None, crowd: float = CROWD
) -> bool:
    """Whether a trial can begin beside those that run, with so many bytes of memory free.

    Where nothing runs it can: if it does not fit even then, it ends as out of memory.
    """
    if not beside:
        return True
    everyone = [demand, *beside]
    if any(each.alone for each in everyone):
        return False
    enough = memory is None or sum(each.cost.memory for each in everyone) <= SPARE * memory
    return enough and sum(each.cost.load for each in everyone) <= crowd
