"""What each class costs in accuracy: studies without one of them, side by side."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna

from study.analysis.effects import SHOWN, Effect, effects
from study.analysis.picture import save_plot
from study.analysis.verdicts import Verdict, judge, too_wide
from study.spec.identity import Identity

PREFIX = "without-"
"""Prefix of the names of these studies."""
NOTHING = "nothing"
CHANCE = "chance"
"""Study attribute with the share of the largest class in validation."""
AGAINST, VERDICT = f"points of skill against {NOTHING}", "verdict"
OPTIONAL = ("standard error", "chance", "seeds")
"""Columns that are dropped where there is no room, the last one first."""
CHANCE_IN_WORDS = (
    "Chance is the share of the largest class; skill is the accuracy rescaled so that chance is 0 "
    "and perfect is 1. Skills are compared seed by seed; accuracies over different classes are "
    "not comparable."
)

Studies = Sequence[tuple[optuna.Study, Identity]]


def skills(studies: Studies) -> list[Effect]:
    """Return the skill of each seed, by class removed, for studies that stored their chance."""
    found = []
    for study, identity in studies:
        chance: Any = study.user_attrs.get(CHANCE)
        (effect,) = effects(study, identity)
        if effect.scores and chance is not None:
            scores = tuple((score - chance) / (1 - chance) for score in effect.scores)
            name = identity["space"].removeprefix(PREFIX)
            found.append(replace(effect, label=name, scores=scores, right=(), holdout=()))
    return found


def judged(found: Sequence[Effect]) -> dict[str, Verdict]:
    """Judge whether skill differs without a class; empty without a study of all classes."""
    if all(effect.label != NOTHING for effect in found):
        return {}
    verdicts = judge(found, NOTHING)
    return {label: too_wide(verdict) or verdict for label, verdict in verdicts.items()}


def save_picture(found: Sequence[Effect], path: Path) -> None:
    """Draw the skills."""
    verdicts = judged(found)
    save_plot(found, "skill without a class", NOTHING if verdicts else "", verdicts, path)


def removed_table(studies: Studies) -> list[list[str]]:
    """Return a header and rows: class removed, score, standard error, chance, skill, other values,
    seeds, and, if known, the difference in skill and a verdict."""
    rows: list[list[str]] = []
    names: list[str] = []
    by_name = {effect.label: effect for effect in skills(studies)}
    verdicts = judged([*by_name.values()])
    for study, identity in studies:
        (effect,) = effects(study, identity)
        if not effect.scores:
            continue
        name = identity["space"].removeprefix(PREFIX)
        names = names or list(effect.values)[:SHOWN]
        chance: Any = study.user_attrs.get(CHANCE)
        rows.append(
            [
                name,
                f"{effect.mean:.4f}",
                f"{effect.error:.4f}" if len(effect.scores) > 1 else "-",
                "-" if chance is None else f"{chance:.4f}",
                f"{by_name[name].mean:.4f}" if name in by_name else "-",
                *(f"{statistics.fmean(effect.values[each]):.4f}" for each in names),
                str(len(effect.scores)),
                *(_told(name, verdicts) if verdicts else ()),
            ]
        )
    head = ["removed", "score", "standard error", "chance", "skill", *names, "seeds"]
    return [[*head, AGAINST, VERDICT] if verdicts else head, *rows]


def _told(name: str, verdicts: Mapping[str, Verdict]) -> tuple[str, str]:
    verdict = verdicts.get(name)
    return (verdict.points, verdict.word) if verdict else ("", "")
