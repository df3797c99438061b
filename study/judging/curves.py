"""Whole learning curves of stored studies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from fer.errors import UserError
from study.engine.pruners import curve_of, kind_of
from study.spec.identity import IDENTITY, INSTALLATION, QUESTION, differences
from study.spec.score import SCORED
from study.spec.spec import BUDGET
from study.storage.records import CONFIG, CONTINUES, ORIGIN, Ending, ending, kept, result_of

TOP = 5
LEAST = 12  # whole curves, below which nothing is said

Kind = tuple[Any, ...]


@dataclass(frozen=True)
class Curves:
    """Trials that were trained to their end, in the order in which they were begun.

    `scores` is (trials, epochs) float64; `running` is the same with the mean of the last epochs
    up to each one, what a pruner goes by. `kinds` can be compared with their own alone.
    """

    scores: NDArray[np.float64]
    running: NDArray[np.float64]
    kinds: Sequence[Kind]
    by_hand: NDArray[np.bool_]
    trials: Sequence[FrozenTrial]

    @property
    def final(self) -> NDArray[np.float64]:
        """Scores, (trials,)."""
        return self.running[:, -1]

    def some(self, which: NDArray[np.int64]) -> "Curves":
        """Those trials alone, in that order."""
        return Curves(
            self.scores[which],
            self.running[which],
            [self.kinds[i] for i in which],
            self.by_hand[which],
            [self.trials[i] for i in which],
        )


def curves_of(trials: Sequence[FrozenTrial], curves_by: Sequence[str]) -> Curves:
    """The curves of trials that were all trained for as many epochs."""
    scores = np.array([curve_of(trial) for trial in trials])
    epochs = range(1, scores.shape[1] + 1)
    return Curves(
        scores,
        np.stack([scores[:, max(0, end - SCORED) : end].mean(1) for end in epochs], 1),
        [kind_of(trial, curves_by) for trial in trials],
        np.array([ORIGIN in trial.user_attrs for trial in trials]),
        trials,
    )


def whole_curves(studies: Sequence[optuna.Study], curves_by: Sequence[str]) -> Curves:
    """The whole curves of these studies, one for each settings: the first, whatever its seed.

    Raises UserError if two studies trained under other conditions, or there are too few curves.
    """
    check_alike(studies)
    epochs = kept(studies[0], IDENTITY)["epochs"]
    trials = trained(studies)
    found: dict[str, FrozenTrial] = {}
    for trial, key in zip(trials, settings_keys(trials), strict=True):
        if len(trial.intermediate_values) == epochs and np.isfinite(curve_of(trial)).all():
            found.setdefault(key, trial)
    if len(found) < LEAST:
        raise UserError(
            f"{len(found)} trials with different settings were trained to their end, it takes "
            f"{LEAST}; `python -m study.run --pruner none` makes more"
        )
    return curves_of(list(found.values()), curves_by)


def trained(studies: Sequence[optuna.Study]) -> list[FrozenTrial]:
    """The complete trials that these studies trained themselves."""
    return [
        trial
        for study in studies
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if (result := result_of(trial)) is not None and result.repeats is None
    ]


def settings_keys(trials: Sequence[FrozenTrial]) -> list[str]:
    """The settings of each trial but for its seed, as text.

    Only those that all trials have: an older version did not store the later ones.
    """
    settings: list[Mapping[str, Any]] = [kept(trial, CONFIG, {}) for trial in trials]
    shared = set.intersection(*(each.keys() - {*BUDGET} for each in settings)) if trials else set()
    return [repr(sorted((key, each[key]) for key in shared)) for each in settings]


def check_alike(studies: Sequence[optuna.Study]) -> None:
    """Raise UserError if one of the studies is none of ours or trained under other conditions."""
    identities = [kept(study, IDENTITY) for study in studies]
    for study, identity in zip(studies, identities, strict=True):
        if identity is None:
            raise UserError(f"study {study.study_name!r} was not begun by study.run")
        different = [
            words
            for words in differences(conditions(identities[0]), conditions(identity))
            if not words.startswith("an older version")
        ]
        if different:
            raise UserError(
                f"studies {studies[0].study_name!r} and {study.study_name!r} trained under other "
                f"conditions: {'; '.join(different)}"
            )


def conditions(identity: Mapping[str, Any] | None) -> dict[str, Any]:
    """What of an identity curves depend on, but for the installation."""
    ignored = (*QUESTION, *INSTALLATION)
    return {key: each for key, each in (identity or {}).items() if key not in ignored}


def stopped_early(studies: Sequence[optuna.Study]) -> dict[str, int]:
    """How many trials of these studies were stopped, how many of them were taken up again, and
    how many of those ended among the TOP best of their study."""
    stopped = taken = best = 0
    for study in studies:
        trials = study.get_trials(deepcopy=False)
        ranked = sorted(trained([study]), key=lambda trial: -(trial.value or 0.0))
        stopped += sum(ending(trial) == Ending.PRUNED for trial in trials)
        taken += sum(kept(trial, CONTINUES) is not None for trial in trials)
        best += sum(kept(trial, CONTINUES) is not None for trial in ranked[:TOP])
    return {"stopped": stopped, "taken_up": taken, "of_the_best": best}
