"""The outcome of a comparison: its table and its verdict."""

import math
import statistics
from collections.abc import Mapping, Sequence

from rich.table import Table

from study.analysis import images
from study.analysis.effects import SHOWN, Effect
from study.analysis.overtuning import standard_error_of_a_difference
from study.analysis.verdicts import (
    AT_THIS_BUDGET,
    UNDECIDED,
    Verdict,
    difference,
    known,
    undecided,
)
from study.spec.identity import Identity

HELD_OUT = "held out"
ERROR = "standard error"
NAMED = 16  # minimum width of the column of names, which wraps


def confirmed(found: Sequence[Effect], verdicts: Mapping[str, Verdict], control: str) -> str:
    """Return whether one of the settings is better than the control, in words.

    Settings that diverged or were trained with a single seed are ignored.
    """
    if next(effect for effect in found if effect.label == control).diverged:
        return f"no verdict: {control} diverged"
    ranked = sorted(known(verdicts).items(), key=lambda each: -each[1].mean)
    if not ranked:
        return f"no verdict: two seeds of {control} and of another are needed"
    for label, verdict in ranked:
        if verdict.word == "better":
            return f"a real winner: {label} is better, {difference(verdict, control)}"
    for label, verdict in ranked:
        if verdict.word == UNDECIDED:
            return f"no winner, {AT_THIS_BUDGET}: {undecided(label, verdict, control)}"
    label, verdict = ranked[0]
    return f"no winner, {control} is better: {label} {difference(verdict, control)}"


def in_brackets(found: Sequence[Effect], identity: Identity) -> str:
    """Explain the intervals of a table, and the precision of its holdout column."""
    held, cases = [each for effect in found for each in effect.holdout], identity.get("held_out")
    of_held = ""
    if held and cases:
        error = 100 * standard_error_of_a_difference(statistics.fmean(held), cases)
        of_held = (
            f"; held out: {cases:,} images, whose sampling alone gives a difference a standard "
            f"error of up to {error:.2f} points"
        )
    return (
        "in brackets: 95% intervals, corrected like the verdicts for the number of values; "
        f"{images.in_words(found, identity)}{of_held}"
    )


def effects_table(
    found: Sequence[Effect], title: str, control: str, verdicts: Mapping[str, Verdict], width: int
) -> Table:
    """Return `effect_rows` as a table for a terminal `width` columns wide.

    On a narrow terminal, headings and names wrap, and columns that do not fit are dropped: first
    the values other than the score, then the holdout, last the standard error.
    """
    rows = effect_rows(found, title, control, verdicts)
    return fitted_table(rows, rows[0][rows[0].index(ERROR) :], width)


def fitted_table(rows: Sequence[Sequence[str]], optional: Sequence[str], width: int) -> Table:
    """Head and rows for a terminal of that width.

    On a narrow one heads and the first column fold, and of the columns with `optional` names the
    last ones are left out until the rest fits.
    """
    columns = [*zip(*rows, strict=True)]
    spare = [next(each for each in columns if each[0] == name) for name in optional]

    def least(column: Sequence[str]) -> int:
        return max(map(len, (*column[0].split(), *column[1:])))

    def needed() -> int:
        return NAMED + sum(map(least, columns[1:])) + 3 * len(columns) + 1

    while spare and needed() > width:
        columns.remove(spare.pop())
    narrow = sum(max(map(len, column)) + 3 for column in columns) + 1 > width
    table = Table(header_style="bold")
    for place, column in enumerate(columns):
        table.add_column(column[0], width=least(column) if place and narrow else None)
    for row in [*zip(*columns, strict=True)][1:]:
        table.add_row(*row)
    return table


def effect_rows(
    found: Sequence[Effect], title: str, control: str, verdicts: Mapping[str, Verdict]
) -> list[list[str]]:
    """Return a header and one row per value: score, seeds, difference to `control` in points,
    verdict, and details of the scores.

    Difference and verdict are omitted if no row has them.
    """
    values = list(dict.fromkeys(name for effect in found for name in effect.values))[:SHOWN]
    held = [HELD_OUT] if any(effect.holdout for effect in found) else []
    scores, details = [[title, "score", "seeds"]], [[ERROR, *held, *values]]
    judged = [[f"points against {control}" if control else "", "verdict"]]
    for effect in found:
        scores.append([effect.label, in_figures(effect.mean), str(len(effect.scores))])
        told = [effect.holdout] * len(held) + [effect.values.get(name) for name in values]
        means = (statistics.fmean(each or (math.nan,)) for each in told)
        details.append([*map(in_figures, (effect.error, *means))])
        verdict = verdicts.get(effect.label)
        lost = f"{effect.diverged} diverged" if effect.diverged else ""
        points = verdict.points if verdict else ""
        judged.append([lost or points, verdict.word if verdict else ""])
    kept = [column for column in zip(*judged, strict=True) if any(column[1:])]
    return [
        [*score, *verdict, *detail]
        for score, detail, *verdict in zip(scores, details, *kept, strict=True)
    ]


def in_figures(value: float) -> str:
    """Format a score; `-` if there is none."""
    return f"{value:.4f}".replace("nan", "-")
