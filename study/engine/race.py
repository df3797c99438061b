"""Racing: stop training settings of a comparison that are clearly beaten."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from optuna.trial import FrozenTrial

from study.spec.identity import Identity
from study.spec.spec import Spec
from study.storage.records import FINISHED, Ending, ending, result_of

LEAST = 3  # seeds that all settings must have before one is eliminated
Rule = Callable[[Sequence[FrozenTrial], Identity, int], Mapping[str, str]]
"""Return the beaten labels with the reasons, given the finished trials of whole seeds and the
maximum number of times the rule is applied."""
Fate = Literal["train", "wait", "leave out"]


class Race:
    """Decides for each row whether to train it, based on the rows asked for before it.

    The last `at_once` - 1 of these may still be running and do not count, so that no worker waits
    as long as trials take equally long. Decisions do not depend on timing: an interrupted study
    continues as it would have. The first variant, the control, is never eliminated.
    """

    def __init__(self, spec: Spec, identity: Identity, rule: Rule, at_once: int) -> None:
        self._variants, self._identity = spec.variants, identity
        self._control = next(iter(spec.variants))
        self._rule, self._looks = rule, spec.seeds - LEAST
        self._running = at_once - 1

    def fate(
        self, number: int, row: Mapping[str, Any], trials: Sequence[FrozenTrial]
    ) -> tuple[Fate, str]:
        """Return what to do with trial `number`, whose parameters are `row`, and why."""
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
        # Failed trials have no score and are retried at the end.
        if not all(each.state.is_finished() for each in ended):
            return "wait", ""
        done = [each for each in ended if each.state in FINISHED]
        beaten = self._rule(done, self._identity, self._looks)
        return ("leave out", beaten[label]) if label in beaten else ("train", "")

    def left_out(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Return the waiting trials whose labels are eliminated."""
        out = self._out(trials)
        waiting = (each for each in trials if ending(each) == "waiting")
        return [each for each in waiting if self._label_of(each) in out]

    def _out(self, trials: Sequence[FrozenTrial]) -> dict[str, str]:
        """Return the eliminated labels with the reasons."""
        return {
            self._label_of(trial): result.reason
            for trial in trials
            if (result := result_of(trial)) is not None and result.ending == Ending.OUT_OF_RACE
        }

    def _of_whole_seeds(
        self, trials: Sequence[FrozenTrial], out: set[str]
    ) -> list[FrozenTrial] | None:
        """Return the trials of those seeds for which all labels not `out` were asked for.

        None if there are fewer than LEAST such seeds.
        """
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
        """Return the label of the variant a row belongs to, or "" for none."""
        for label, changes in self._variants.items():
            if "seed" in row and {**row, **changes} == row:
                return label
        return ""


def row_of(trial: FrozenTrial) -> Mapping[str, Any]:
    """Return a trial's parameters; for a waiting trial those queued for it."""
    row: Mapping[str, Any] = trial.params or trial.system_attrs.get("fixed_params", {})
    return row
