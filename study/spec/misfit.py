"""Check whether trials added by other programs lie in the study's space."""

import math
from collections.abc import Mapping
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from fer.command import nearest, shortly
from study.pipeline import Only, Settings, Space
from study.spec.space import holds


def misfit(trial: FrozenTrial, space: Space, base: Settings, epochs: int) -> str | None:
    """Return why a trial does not fit `space` and `epochs`, or None if it does.

    Waiting and running trials may lack parameters; finished ones must have all that apply.
    """
    steps = sorted(trial.intermediate_values)
    if steps != list(range(1, len(steps) + 1)) or len(steps) > epochs:
        return f"its reports must be for epochs 1 to {epochs} at most, got {shortly(steps)}"
    if trial.state == TrialState.COMPLETE and not math.isfinite(trial.values[0]):
        return f"its value must be a finite number, got {trial.values[0]}"
    return _misfit_of_parameters(trial, space, base)


def _misfit_of_parameters(trial: FrozenTrial, space: Space, base: Settings) -> str | None:
    fixed = trial.system_attrs.get("fixed_params", {})
    if not isinstance(fixed, Mapping):
        return f"its parameters must be a dictionary, got {shortly(fixed)}"
    parameters = {**fixed, **trial.params}
    whole: dict[str, Any] = dict(base)
    whole |= {key: value for key, value in parameters.items() if not _is_only(space, key)}
    for name, value in parameters.items():
        kind = space.get(name)
        if kind is None:
            hint = nearest(name, space) or f", which has {', '.join(space)}"
            return f"no parameter {shortly(name)} in the space{hint}"
        if isinstance(kind, Only) and kind.of in parameters and not kind.applies(whole):
            return f"{name} is only for {kind.of} {kind.value}, got {shortly(whole[kind.of])}"
        distribution = kind.distribution if isinstance(kind, Only) else kind
        if not holds(distribution, value):
            return f"{name} must be {in_words(distribution)}, got {shortly(value)}"
        if trial.distributions.get(name, distribution) != distribution:
            return f"{name} has another range, {in_words(trial.distributions[name])}"
    if trial.state not in (TrialState.COMPLETE, TrialState.PRUNED):
        return None
    lacking = [
        name
        for name, kind in space.items()
        if name not in parameters and (not isinstance(kind, Only) or kind.applies(whole))
    ]
    return f"it lacks {', '.join(lacking)}" if lacking else None


def _is_only(space: Space, name: str) -> bool:
    return isinstance(space.get(name), Only)


def in_words(distribution: BaseDistribution) -> str:
    """Describe the values of a distribution."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return f"one of {', '.join(map(str, choices))}"
        case IntDistribution(low=low, high=high, step=step):
            return f"{low}..{high}" + (f" in steps of {step}" if step > 1 else "")
        case FloatDistribution(low=low, high=high, step=float_step):
            return f"{low:g}..{high:g}" + (f" in steps of {float_step:g}" if float_step else "")
    raise TypeError(f"unsupported distribution: {distribution}")
