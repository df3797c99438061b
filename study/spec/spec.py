"""The spec of a study: which settings its trials may have, and which it starts with."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from optuna.distributions import CategoricalDistribution
from optuna.trial import BaseTrial, FrozenTrial

from fer.errors import UserError
from study.pipeline import Only, Pipeline, Settings, Space
from study.spec.misfit import misfit
from study.spec.space import examples, parameters_of, settings_of, suggest

BUDGET = ("epochs", "seed")
"""Settings that the study gives every trial, in addition to the pipeline's."""


class Kind(StrEnum):
    """Purpose of a study."""

    SEARCH = "search"
    COMPARE = "compare"  # the values of a setting
    SEEDS = "seeds"  # one setting, several seeds
    CONFIRM = "confirm"  # the best of a search, trained again
    REMOVED = "emotions"  # without one class at a time


@dataclass(frozen=True)
class Spec:
    """What to train: `space` varies `base`; `queue` has the first trials' parameters by origin."""

    kind: Kind
    name: str
    space: Space
    base: dict[str, Any]
    queue: Mapping[str, dict[str, Any]]
    control: str = ""  # origin of the trial that is never pruned
    variants: Mapping[str, Settings] = field(default_factory=dict)  # by label; empty in a search
    seeds: int = 1
    about: Mapping[str, Any] = field(default_factory=dict)  # stored with the study

    def __post_init__(self) -> None:
        given: list[tuple[str, Sequence[Any]]] = [(key, [each]) for key, each in self.base.items()]
        for name, kind in self.space.items():
            distribution = kind.distribution if isinstance(kind, Only) else kind
            given.append((name, getattr(distribution, "choices", ())))
        for name, values in given:
            for value in values:
                if isinstance(value, float) and not math.isfinite(value):
                    raise UserError(
                        f"setting {name} = {value}: must be finite to be stored as JSON"
                    )

    @property
    def epochs(self) -> int:
        """Epochs per trial."""
        epochs: int = self.base["epochs"]
        return epochs

    @property
    def seed(self) -> int:
        """Seed of the sampler, and of every trial without its own."""
        seed: int = self.base["seed"]
        return seed

    def suggest(self, trial: BaseTrial) -> dict[str, Any]:
        """Return all settings of a trial; for a queued one use FixedTrial(parameters)."""
        return suggest(trial, self.space, self.base)

    def misfit(self, trial: FrozenTrial) -> str | None:
        """Return why a trial added by another program does not fit the study, or None."""
        reason = misfit(trial, self.space, self.base, self.epochs)
        given = trial.params or trial.system_attrs.get("fixed_params")
        if reason is None and self.variants and given and given not in self.queue.values():
            return "its parameters are not a row of this comparison"
        return reason

    def examples(self) -> list[dict[str, Any]]:
        """Return settings to measure the speed of trials on."""
        if not self.variants:
            return examples(self.space, self.base, self.seed)
        return [{**self.base, **changes} for changes in self.variants.values()][:6]


def searching(
    pipeline: Pipeline, name: str, epochs: int | None, seed: int, hand_made: bool = True
) -> Spec:
    """Return the spec of a search in the pipeline's space.

    With `hand_made` it starts with the presets that lie in the space. Raises UserError if a
    preset names a setting that neither the space nor the base has.
    """
    base = {**pipeline.base, "epochs": epochs or pipeline.epochs, "seed": seed}
    known = base.keys() | settings_of(pipeline.space)
    for origin, preset in pipeline.presets.items():
        if unknown := preset.keys() - known:
            raise UserError(
                f"preset {origin!r} names {', '.join(sorted(unknown))}, which neither the "
                "pipeline's space nor its base has"
            )
    begin = {
        origin: parameters_of(preset, pipeline.space, base)
        for origin, preset in pipeline.presets.items()
    }
    given = begin.items() if hand_made else ()
    queue = {origin: found for origin, found in given if found is not None}
    control = next(iter(pipeline.presets), "") if hand_made else ""
    return Spec(Kind.SEARCH, name, pipeline.space, base, queue, control=control)


def comparing(
    kind: Kind,
    name: str,
    pipeline: Pipeline,
    variants: Mapping[str, Settings],
    seeds: int,
    epochs: int | None,
    first_seed: int = 0,
    about: Mapping[str, Any] | None = None,
) -> Spec:
    """Return the spec of a comparison of variants of the pipeline's base, with equal seeds.

    All variants are trained with one seed before the next. Raises UserError if a variant lacks a
    setting that another one has and the base does not.
    """
    base = {**pipeline.base, "epochs": epochs or pipeline.epochs, "seed": 0}
    varied = dict.fromkeys(setting for changes in variants.values() for setting in changes)
    variants = {
        label: {key: whole[key] for key in varied if key in whole}
        for label, whole in ((label, base | dict(own)) for label, own in variants.items())
    }
    for label, changes in variants.items():
        if lacking := [key for key in varied if key not in changes]:
            raise UserError(
                f"{label} has no value for {', '.join(lacking)}, which others vary: add it to the "
                "pipeline's base"
            )
    called = {label: label if len(variants) > 1 else name for label in variants}
    drawn = range(first_seed, first_seed + seeds)
    queue = {
        f"{called[label]}, seed {seed}": {**changes, "seed": seed}
        for seed in drawn
        for label, changes in variants.items()
    }
    values: dict[str, list[Any]] = {}
    for row in queue.values():
        for setting, value in row.items():
            seen = values.setdefault(setting, [])
            if value not in seen:
                seen.append(value)
    space: Space = {setting: CategoricalDistribution(each) for setting, each in values.items()}
    return Spec(kind, name, space, base, queue, variants=variants, seeds=seeds, about=about or {})
