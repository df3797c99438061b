"""What each class costs in accuracy: studies without one of them, side by side."""

import statistics
from typing import Any

import optuna

from study.analysis.effects import SHOWN, effects
from study.spec.identity import Identity

PREFIX = "without-"
"""Prefix of the names of these studies."""
NOTHING = "nothing"
CHANCE = "chance"
"""Study attribute with the share of the largest class in validation."""
CHANCE_IN_WORDS = (
    "Chance is the share of the largest class; skill is the accuracy rescaled so that chance is 0 "
    "and perfect is 1."
)


def removed_table(studies: list[tuple[optuna.Study, Identity]]) -> list[list[str]]:
    """Return a header and rows: class removed, score, standard error, chance, skill, other values,
    seeds."""
    rows: list[list[str]] = []
    names: list[str] = []
    for study, identity in studies:
        (effect,) = effects(study, identity)
        if not effect.scores:
            continue
        names = names or list(effect.values)[:SHOWN]
        chance: Any = study.user_attrs.get(CHANCE)
        skill = "-" if chance is None else f"{(effect.mean - chance) / (1 - chance):.4f}"
        rows.append(
            [
                identity["space"].removeprefix(PREFIX),
                f"{effect.mean:.4f}",
                f"{effect.error:.4f}" if len(effect.scores) > 1 else "-",
                "-" if chance is None else f"{chance:.4f}",
                skill,
                *(f"{statistics.fmean(effect.values[name]):.4f}" for name in names),
                str(len(effect.scores)),
            ]
        )
    return [["removed", "score", "standard error", "chance", "skill", *names, "seeds"], *rows]
