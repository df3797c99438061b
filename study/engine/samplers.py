"""Samplers: Optuna's, and one that proposes given rows."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from study.pipeline import Settings

SAMPLERS: dict[str, dict[str, Any]] = {
    "tpe": {"multivariate": True, "constant_liar": True, "n_startup_trials": 10},
    "random": {},
}
"""Settings of each sampler; a change makes another study."""
ROWS = {"name": "rows"}
"""Description stored for a comparison, in place of a sampler."""


def describe_sampler(name: str) -> dict[str, Any]:
    """Return the sampler `name` with its settings, as stored with a study."""
    return {"name": name, **SAMPLERS[name]}


def make_sampler(name: str, seed: int, session: int) -> optuna.samplers.BaseSampler:
    """Return the sampler `name`, seeded for this process.

    Each process that works on a study has its own `session` number and draws other proposals.
    """
    seed = (seed * 1_000_003 + session) % 2**32
    settings: dict[str, Any] = {"seed": seed, **SAMPLERS[name]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if name == "tpe":
            return optuna.samplers.TPESampler(**settings)
    return optuna.samplers.RandomSampler(**settings)


class RowSampler(optuna.samplers.BaseSampler):
    """Proposes the row with the fewest trials that have not failed; ties go to the earliest.

    `rows` holds the parameters of each row, and `space` contains them all.
    """

    def __init__(self, rows: Sequence[Settings], space: Mapping[str, BaseDistribution]) -> None:
        self._rows, self._space = rows, dict(space)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._space

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        others = study.get_trials(deepcopy=False)
        tried = [
            other.params or other.system_attrs.get("fixed_params", {})
            for other in others
            if other.state != TrialState.FAIL and other.number != trial.number
        ]
        return dict(min(self._rows, key=lambda row: tried.count(dict(row))))

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        raise NotImplementedError(f"{param_name} is in no row")
