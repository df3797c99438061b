"""The plan printed before the first trial: what will run, and for how long."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState

from study.engine.eta import Forecast
from study.engine.pruners import earliest_pruning, expected_share, protected_trials
from study.spec.identity import in_words
from study.spec.spec import Spec
from study.words import counted, describe_duration

LONG = 2 * 3600  # seconds above which the plan suggests options that shorten it


def make_forecast(
    study: optuna.Study,
    spec: Spec,
    pruner: Mapping[str, Any],
    new: int,
    workers: int,
    epoch_seconds: float | None,
    budget: int | None,
) -> Forecast:
    """Return a forecast for `new` trials, limited to `budget` epochs in total if given.

    `epoch_seconds` are the measured seconds per epoch.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    kinds = 1
    for name in pruner.get("within", ()):
        kind = spec.space.get(name)
        if isinstance(kind, CategoricalDistribution):
            kinds *= len(kind.choices)
    name = pruner["name"]
    return Forecast(
        trials=new,
        epochs=spec.epochs,
        workers=workers,
        epoch_seconds=epoch_seconds,
        share=expected_share(name, spec.epochs),
        earliest=earliest_pruning(name, spec.epochs),
        protected=max(0, protected_trials(name, kinds) - len(complete)),
        budget=budget,
    )


def plan_lines(
    forecast: Forecast, about: str, known: int, search: Mapping[str, Mapping[str, Any]] | None
) -> list[str]:
    """Return the lines of the plan: trials, data, duration, and how a search decides.

    `known` further trials are reused from other studies; `search` has the sampler and pruner.
    """
    trials, epochs = counted(forecast.trials, "trial"), counted(forecast.epochs, "epoch")
    line = f"plan   {trials} x {epochs} of {about}"
    if forecast.budget is not None:
        line = f"plan   {forecast.budget} epochs, about {trials} x {epochs}, of {about}"
    line += f", {forecast.workers} at once"
    line += f", {known} more reused from other studies" if known else ""
    seconds = forecast.seconds_left([])
    if seconds is not None:
        line += f": about {describe_duration(seconds)}"
        whole = replace(forecast, share=1.0).seconds_left([])
        if forecast.share < 1 and forecast.budget is None and whole is not None:
            line += f" ({describe_duration(whole)} without pruning)"
    lines = [line]
    if search is not None:
        lines.append(
            f"       sampler {in_words(search['sampler'])}; pruner {in_words(search['pruner'])}"
        )
    if seconds is not None and seconds > LONG:
        lines.append(
            "       That is long. Use fewer trials, epochs or images, or stop with "
            "--timeout SECONDS and continue later"
        )
    return lines
