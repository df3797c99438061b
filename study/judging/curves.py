"""Complete learning curves of stored studies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from fer.errors import UserError
from study.engine.pruners import curve_of, kind_of
from study.spec.identity import IDENTITY, INSTALLATION, QUESTION, changes
from study.spec.score import SCORED
from study.spec.spec import BUDGET
from study.storage.records import CONFIG, CONTINUES, ORIGIN, Ending, ending, kept, result_of

TOP = 5
LEAST = 12  # minimum number of complete curves

Kind = tuple[Any, ...]


@dataclass(frozen=True)
class Curves:
    """Trials trained to completion, in the order in which they started.

    `scores` is (trials, epochs) float64; `running` has the mean of the last epochs up to each one,
    which pruners compare. Trials are only comparable within their `kinds`.
    """

    scores: NDArray[np.float64]
    running: NDArray[np.float64]
    kinds: Sequence[Kind]
    by_hand: NDArray[np.bool_]
    trials: Sequence[FrozenTrial]

    @property
    def final(self) -> NDArray[np.float64]:
        """Final scores, (trials,)."""
        return self.running[:, -1]

    def some(self, which: NDArray[np.int64]) -> "Curves":
        """Return a selection of trials, in the given order."""
        return Curves(
            self.scores[which],
            self.running[which],
            [self.kinds[i] for i in which],
            self.by_hand[which],
            [self.trials[i] for i in which],
        )


def curves_of(trials: Sequence[FrozenTrial], curves_by: Sequence[str]) -> Curves:
    """Return the curves of trials that all have the same number of epochs."""
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
    """Return the complete curves of studies, one per distinct settings: the first of any seed.

    Raises UserError if the studies trained under different conditions, or have too few curves.
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
            f"need at least {LEAST} complete trials with different settings, got {len(found)}; "
            "`python -m study.run --pruner none` trains more"
        )
    return curves_of(list(found.values()), curves_by)


def trained(studies: Sequence[optuna.Study]) -> list[FrozenTrial]:
    """Return the complete trials that these studies trained themselves."""
    return [
        trial
        for study in studies
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if (result := result_of(trial)) is not None and result.repeats is None
    ]


def settings_keys(trials: Sequence[FrozenTrial]) -> list[str]:
    """Return the settings of each trial without its seed, as text.

    Only settings that all trials have are used: older versions did not store newer ones.
    """
    settings: list[Mapping[str, Any]] = [kept(trial, CONFIG, {}) for trial in trials]
    shared = set.intersection(*(each.keys() - {*BUDGET} for each in settings)) if trials else set()
    return [repr(sorted((key, each[key]) for key in shared)) for each in settings]


def check_alike(studies: Sequence[optuna.Study]) -> None:
    """Raise UserError if a study was not created by this program or its conditions differ."""
    identities = [kept(study, IDENTITY) for study in studies]
    for study, identity in zip(studies, identities, strict=True):
        if identity is None:
            raise UserError(f"study {study.study_name!r} was not created by study.run")
        # What an older version did not store is not compared.
        different = changes(conditions(identities[0]), conditions(identity))
        if different:
            raise UserError(
                f"studies {studies[0].study_name!r} and {study.study_name!r} trained under "
                f"different conditions: {'; '.join(different)}"
            )


def conditions(identity: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the parts of an identity that curves depend on, without the installation."""
    ignored = (*QUESTION, *INSTALLATION)
    return {key: each for key, each in (identity or {}).items() if key not in ignored}


def stopped_early(studies: Sequence[optuna.Study]) -> dict[str, int]:
    """Return how many trials were pruned, how many of those were resumed as second chances, and
    how many of these ended among the TOP best of their study."""
    stopped = taken = best = 0
    for study in studies:
        trials = study.get_trials(deepcopy=False)
        ranked = sorted(trained([study]), key=lambda trial: -(trial.value or 0.0))
        stopped += sum(ending(trial) == Ending.PRUNED for trial in trials)
        taken += sum(kept(trial, CONTINUES) is not None for trial in trials)
        best += sum(kept(trial, CONTINUES) is not None for trial in ranked[:TOP])
    return {"stopped": stopped, "taken_up": taken, "of_the_best": best}
