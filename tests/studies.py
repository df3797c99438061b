"""In-memory studies to test pages; nothing is trained."""

import math
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from study.pipeline import Only
from study.spec.identity import IDENTITY
from study.spec.space import describe
from study.storage.records import CONFIG, ORIGIN, RESULT, Result
from study.storage.studies import COMMAND

COMMAND_LINE = "python -m study.run --pipeline tests.blobs:pipeline --study 'my <b>study</b>'"
SPACE: dict[str, Any] = {
    "optimizer": CategoricalDistribution(["sgd", "adam", "a <b>bold</b> one"]),
    "sgd_lr": Only("optimizer", "sgd", "lr", FloatDistribution(1e-3, 1.0, log=True)),
    "adam_lr": Only("optimizer", "adam", "lr", FloatDistribution(1e-5, 1e-2, log=True)),
    "batch_size": CategoricalDistribution([16, 32, 64, 128]),
    **{f"width{i}": IntDistribution(8, 256, log=True) for i in range(4)},
    **{f"dropout{i}": FloatDistribution(0.0, 0.6) for i in range(6)},
    **{f"mirror{i}": CategoricalDistribution([True, False]) for i in range(6)},
}


def searched(count: int = 30, epochs: int = 10, seed: int = 0, **of_best: Any) -> optuna.Study:
    """Return a search with trials of every ending; each result includes `of_best`."""
    rng = np.random.default_rng(seed)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(study_name="my <b>study</b>", direction="maximize")
    identity: dict[str, Any] = {
        **{"format": 4, "kind": "search", "space": "large", "space_definition": describe(SPACE)},
        **{"base": {"momentum": 0.9}, "epochs": epochs, "seed": 0, "begins_with": ["hand & co"]},
        **{"metric": "validation accuracy", "scored_epochs": 3, "data": "blobs"},
        **{"sampler": {"name": "random"}, "pruner": {"name": "median", "earliest": 2}},
        **{"code": "0123456789abcdef" * 4, "versions": {"numpy": "2.0"}},
    }
    study._storage.set_study_system_attr(study._study_id, IDENTITY, identity)
    study.set_user_attr(COMMAND, COMMAND_LINE)
    study.add_trials([_trial(number, epochs, rng, of_best) for number in range(count)])
    return study


def _trial(
    number: int, epochs: int, rng: np.random.Generator, of_best: dict[str, Any]
) -> optuna.trial.FrozenTrial:
    params: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    within: dict[str, Any] = {}
    for name, kind in SPACE.items():
        if isinstance(kind, Only) and not kind.applies(settings):
            continue
        distribution = kind.distribution if isinstance(kind, Only) else kind
        params[name] = _drawn(distribution, rng)
        within[name] = distribution
        settings[kind.setting if isinstance(kind, Only) else name] = params[name]
    ending = (
        "complete" if number < 2 else ["complete", "pruned", "complete", "diverged"][number % 4]
    )
    trained = {"complete": epochs, "pruned": max(1, epochs // 4), "diverged": 2}[ending]
    best = 0.3 + 0.3 * rng.random()
    curve = [best * (1 - math.exp(-(epoch + 1) / 5)) for epoch in range(trained)]
    losses = {"loss": [2 - each for each in curve], "train_loss": [1.9 - each for each in curve]}
    result = Result(
        *(ending, curve[-1], trained, trained, 1.5 * trained, curve[-1]),
        values={"macro_f1": curve[-1] - 0.05, "loss": losses["loss"][-1]},
        curves=losses,
    )
    complete = ending == "complete"
    return create_trial(
        params=params,
        distributions=within,
        state=TrialState.COMPLETE if complete else TrialState.PRUNED,
        value=curve[-1] if complete else None,
        intermediate_values=dict(enumerate(curve, 1)),
        system_attrs={
            CONFIG: {**settings, "epochs": epochs, "seed": 0},
            RESULT: {**result.stored(), **of_best},
        },
        user_attrs={**result.shown(), **({ORIGIN: "hand & co"} if number == 0 else {})},
    )


def _drawn(distribution: Any, rng: np.random.Generator) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(rng.integers(len(distribution.choices)))]
    low, high = distribution.low, distribution.high
    value = (
        math.exp(rng.uniform(math.log(low), math.log(high)))
        if distribution.log
        else (rng.uniform(low, high))
    )
    return int(value) if isinstance(distribution, IntDistribution) else float(value)
