"""Trials of every kind that other programs can add to a study through Optuna's API."""

import math
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

Within = dict[str, BaseDistribution]

ATTRIBUTES: dict[str, dict[str, Any]] = {
    "settings": {"config": 3},
    "a result": {"result": {"score": "good", "curves": [1]}},
    "a result alone": {"result": {"ending": "complete", "score": 0.9, "epoch": 1, "epochs": 4}},
    "a result with odd settings": {
        "result": {"ending": "complete", "score": 0.9, "epoch": 1, "epochs": 4},
        "config": {"lr": None},
    },
    "deaths": {"deaths": "many"},
    "what it continues": {"continues": "the first"},
    "with how many epochs": {"continues_from": "two"},
    "an origin": {"origin": ["me"]},
    "an owner": {"owner": {"host": 5, "process": "x", "started": None}},
    "another owner": {"owner": "me"},
}
"""Attributes with this program's names but invalid content."""


def queued(choice: str, number: str) -> Iterator[dict[str, Any]]:
    """Yield parameters that cannot be trained, given names of a categorical and a number."""
    yield {choice: "none of these"}
    yield {choice: ["a list"]}
    yield {number: 1e9}
    yield {number: "fast"}
    yield {number: None}
    yield {number: True}
    yield {number: math.nan}
    yield {f"{number}s": 0.1}
    yield {choice: "none of these", number: "fast"}


def finished(own: FrozenTrial) -> Iterator[tuple[str, FrozenTrial]]:
    """Yield finished trials that do not fit the study of the trial `own`, each with the reason."""
    fits, within = own.params, own.distributions
    pruned: dict[str, Any] = {"intermediate_values": {1: 0.9}}
    choice, number = names(own)

    def trial(
        params: dict[str, Any] = fits,
        distributions: dict[str, BaseDistribution] = within,
        state: TrialState = TrialState.COMPLETE,
        **parts: Any,
    ) -> FrozenTrial:
        value: dict[str, Any] = {"value": 0.9} if state == TrialState.COMPLETE else {}
        return create_trial(
            params=params, distributions=distributions, state=state, **{**value, **parts}
        )

    yield "no parameters", trial({}, {})
    few = {choice: fits[choice]}
    yield "too few", trial(few, {choice: within[choice]})
    yield (
        "an unknown name",
        trial({**fits, "depth": 3}, {**within, "depth": IntDistribution(1, 9)}),
    )
    other: Within = {**within, choice: CategoricalDistribution(["other"])}
    yield "another choice", trial({**fits, choice: "other"}, other)
    wide: Within = {**within, number: FloatDistribution(1e-9, 1e9)}
    yield "another range", trial({**fits, number: 1e6}, wide)
    kind: Within = {**within, number: CategoricalDistribution(["a", "b"])}
    yield "another kind", trial({**fits, number: "a"}, kind)
    yield "an infinite value", trial(value=math.inf)
    yield "odd epochs", trial(intermediate_values={-3: 0.1, 10**6: math.nan, 0: math.inf})
    yield "no result", trial()
    yield "a failed one", trial({**fits, choice: "other"}, other, TrialState.FAIL)
    yield "a pruned one", trial(state=TrialState.PRUNED, **pruned)
    for name, attributes in ATTRIBUTES.items():
        for part in ("user_attrs", "system_attrs"):
            given: dict[str, Any] = {part: attributes}
            yield f"{name} in {part}", trial(**given)
            given |= pruned
            yield f"{name} in {part}, pruned", trial(state=TrialState.PRUNED, **given)


def names(own: FrozenTrial) -> tuple[str, str]:
    """Return the names of a categorical and a numerical parameter of a trial."""
    kinds = own.distributions.items()
    choice = next(name for name, kind in kinds if isinstance(kind, CategoricalDistribution))
    # A comparison has only categorical parameters.
    numbers = (name for name, kind in kinds if not isinstance(kind, CategoricalDistribution))
    return choice, next(numbers, choice)


def put_in(study: optuna.Study) -> int:
    """Add all of these to a study; return how many waiting trials can never be trained."""
    own = next(trial for trial in study.trials if trial.params)
    for _, trial in finished(own):
        with suppress(ValueError):  # Optuna rejects a changed distribution
            study.add_trial(trial)
    hopeless = list(queued(*names(own)))
    for parameters in hopeless:
        study.enqueue_trial(parameters)
    odd = [each for name, each in ATTRIBUTES.items() if "owner" not in name and "odd" not in name]
    for attributes in odd:
        study.enqueue_trial(own.params, user_attrs=attributes)
        system = {"fixed_params": own.params, **attributes}
        study.add_trial(create_trial(state=TrialState.WAITING, system_attrs=system))
    study.add_trial(create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": [1, 2]}))
    return len(hopeless) + 2 * len(odd) + 1
