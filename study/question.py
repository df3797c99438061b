"""What a study asks: which settings its trials may have, and which it begins with."""

from dataclasses import dataclass
from typing import Any

from optuna.distributions import CategoricalDistribution
from pydantic import ValidationError

from fer.command import explain
from fer.config import Config
from fer.errors import UserError
from study.space import SPACES, Space, describe, examples, hand_made

Changes = dict[str, Any]
"""Fields of a Config and the values they get."""
SETTLED = ("epochs", "seed", "precision", "threads")
"""What stands in a study's identity, beside the settings that a comparison starts from."""


@dataclass(frozen=True)
class Question:
    """`space` varies `base`; `queue` holds origin and parameters of the first trials."""

    name: str
    space: Space
    base: Config
    queue: list[tuple[str, dict[str, Any]]]
    definition: dict[str, Any]  # in plain types: studies that differ here are not mixed
    variants: dict[str, Changes]  # that are compared, by name; none in a search

    def examples(self, base: Config) -> list[Config]:
        """Settings whose pace says how long trials take, `base` but for what is varied."""
        if not self.variants:
            return examples(self.space, base, base.seed)
        return [base.model_copy(update=changes) for changes in self.variants.values()][:6]


def searching(name: str) -> Question:
    """What is best in a space of that name?"""
    space = SPACES[name]
    return Question(name, space, Config(), list(hand_made(space)), describe(space), {})


def comparing(
    name: str,
    base: Config,
    variants: dict[str, Changes],
    seeds: int,
    first_seed: int = 0,
    about: dict[str, Any] | None = None,
) -> Question:
    """Which of the variants of `base` is better, each trained with as many seeds?

    Every seed is trained in all variants before the next one. `about` is kept with the
    definition. Raises UserError if a variant and `base` do not go together.
    """
    varied = dict.fromkeys(field for changes in variants.values() for field in changes)
    variants = {
        label: {field: changes.get(field, getattr(base, field)) for field in varied}
        for label, changes in variants.items()
    }
    last = {"seed": first_seed + seeds - 1}
    for label, changes in variants.items():
        try:
            Config.model_validate({**base.settings(), **changes, **last})
        except ValidationError as error:
            raise UserError(explain(error, f"{name} {label} with these settings")) from None
    drawn = range(first_seed, first_seed + seeds)
    rows = [{**changes, "seed": seed} for seed in drawn for changes in variants.values()]
    origins = [f"{label}, seed {seed}" for seed in drawn for label in variants]
    values: dict[str, list[Any]] = {}
    for row in rows:
        for field, value in row.items():
            seen = values.setdefault(field, [])
            if value not in seen:
                seen.append(value)
    space: Space = {field: CategoricalDistribution(each) for field, each in values.items()}
    definition = {
        "base": {key: value for key, value in base.settings().items() if key not in SETTLED},
        "variants": variants,
        "seeds": seeds,
        **(about or {}),
    }
    return Question(name, space, base, list(zip(origins, rows, strict=True)), definition, variants)
