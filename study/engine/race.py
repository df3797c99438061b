"""Which rows of a comparison are still worth training: the race among its settings."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from optuna.trial import FrozenTrial

from study.spec.identity import Identity
from study.spec.spec import Spec
from study.storage.records import FINISHED, Ending, ending, result_of

LEAST = 3  # seeds that all have before one is left out
Rule = Callable[[Sequence[FrozenTrial], Identity, int], Mapping[str, str]]
"""Which labels are beaten and why, by finished trials of whole seeds, with the number of times at
which it is asked at most."""
Fate = Literal["train", "wait", "leave out"]


class Race:
    """Decides on each row when it would be trained, by those that were asked for before it.

    The last `at_once` - 1 of these may still run and do not count, so that no worker waits while
    trials take equally long. What is decided depends on no timing: a study that is interrupted
    goes on as it would have. The first variant, the control, is never left out.
    """

    def __init__(self, spec: Spec, identity: Identity, rule: Rule, at_once: int) -> None:
        self._variants, self._identity = spec.variants, identity
        self._control = next(iter(spec.variants))
        self._rule, self._looks = rule, spec.seeds - LEAST
        self._running = at_once - 1

    def fate(
        self, number: int, row: Mapping[str, Any], trials: Sequence[FrozenTrial]
    ) -> tuple[Fate, str]:
        """What becomes of the trial of that number with the parameters `row`, and why."""
        label = self._label(row)
        if label in ("", self._control):
            return "train", ""
        before = [each for each in trials if each.number < number and self._label_of(each)]
        out = self._out(before)
        if label in out:
            return "leave out", out[label]
        begun = [each for each in before if ending(each) != Ending.OUT_OF_RACE]
        ended = self._of_whole_seeds(begun[: len(begun) - self._running], {*out})
        if ended is None:
            return "train", ""
        # What failed has no score, and is tried again at the end.
        if not all(each.state.is_finished() for each in ended):
            return "wait", ""
        done = [each for each in ended if each.state in FINISHED]
        beaten = self._rule(done, self._identity, self._looks)
        return ("leave out", beaten[label]) if label in beaten else ("train", "")

    def left_out(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """The waiting trials of labels that are out by now."""
        out = self._out(trials)
        waiting = (each for each in trials if ending(each) == "waiting")
        return [each for each in waiting if self._label_of(each) in out]

    def _out(self, trials: Sequence[FrozenTrial]) -> dict[str, str]:
        """The labels that are out by now, and why."""
        return {
            self._label_of(trial): result.reason
            for trial in trials
            if (result := result_of(trial)) is not None and result.ending == Ending.OUT_OF_RACE
        }

    def _of_whole_seeds(
        self, trials: Sequence[FrozenTrial], out: set[str]
    ) -> list[FrozenTrial] | None:
        """Those of the seeds with which all labels that are not `out` were asked for; None if
        there are too few of these."""
        by_seed: dict[int, dict[str, FrozenTrial]] = {}
        for trial in trials:
            by_seed.setdefault(row_of(trial)["seed"], {})[self._label_of(trial)] = trial
        whole = [each for each in by_seed.values() if each.keys() | out >= self._variants.keys()]
        if len(whole) < LEAST:
            return None
        return [trial for each in whole for trial in each.values()]

    def _label_of(self, trial: FrozenTrial) -> str:
        return self._label(row_of(trial))

    def _label(self, row: Mapping[str, Any]) -> str:
        """The variant that a row is of; empty if it is none."""
        for label, changes in self._variants.items():
            if "seed" in row and {**row, **changes} == row:
                return label
        return ""


def row_of(trial: FrozenTrial) -> Mapping[str, Any]:
    """A trial's parameters, of one that waits those it will have."""
    row: Mapping[str, Any] = trial.params or trial.system_attrs.get("fixed_params", {})
    return row
