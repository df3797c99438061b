"""The studies of a database, one line each."""

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from rich.cells import cell_len

from fer.command import printable
from study.analysis.answer import answer_of
from study.analysis.commands import option_in
from study.analysis.summary import complete_of
from study.options import Search
from study.spec.identity import FORMAT, IDENTITY, Identity, kind_of
from study.spec.spec import Kind
from study.storage.records import kept
from study.storage.studies import COMMAND, last_activity

FOREIGN = "foreign"
HEAD = ("study", "kind", "complete", "stopped", "running", "total", "best", "age")


@dataclass(frozen=True)
class Listed:
    """A study as a row of the list."""

    study: str
    kind: str  # see Kind; FOREIGN if this program did not create it
    complete: int
    stopped: int  # pruned, diverged or out of memory
    running: int
    total: int | None  # number of finished trials at which the study ends; None if unlimited
    best: float | None
    verdict: str
    last: float  # last activity in seconds since the epoch; 0 without trials


def listed(study: optuna.Study, studies: Sequence[optuna.Study]) -> Listed:
    """Return the row of a study, whichever program created it; `studies` is the whole database."""
    trials = study.get_trials(deepcopy=False)
    states = Counter(trial.state for trial in trials)
    identity: Any = kept(study, IDENTITY)
    ours = isinstance(identity, dict) and "space_definition" in identity
    kind, verdict = FOREIGN, ""
    if ours and identity.get("format", 1) > FORMAT:
        verdict = "written by a newer version of this program"
    elif ours:
        kind = str(kind_of(identity))
        answer = answer_of(study, studies)
        verdict = answer.short or answer.words
    return Listed(
        study.study_name,
        kind,
        states[TrialState.COMPLETE],
        states[TrialState.PRUNED],
        states[TrialState.RUNNING],
        total_of(study, identity) if kind != FOREIGN else None,
        best_of_ours(study) if kind != FOREIGN else best_of_foreign(study, trials),
        verdict,
        last_activity(study),
    )


def total_of(study: optuna.Study, identity: Identity) -> int | None:
    """Return the number of finished trials at which a study ends, from its last command."""
    if kind_of(identity) != Kind.SEARCH:
        definition = identity["space_definition"]
        return len(definition["variants"]) * int(definition["seeds"])
    command = str(kept(study, COMMAND, ""))
    given = {name: option_in(command, name) for name in ("trials", "budget-epochs")}
    numbers = {
        name.replace("-", "_"): int(value)
        for name, value in given.items()
        if value and value.isdecimal()
    }
    return Search(**numbers).total if command else None


def best_of_ours(study: optuna.Study) -> float | None:
    """Return the best score of a complete trial, or None."""
    return next((result.score for _, result in complete_of(study)), None)


def best_of_foreign(study: optuna.Study, trials: Sequence[FrozenTrial]) -> float | None:
    """Return the best value of a single-objective study, or None."""
    if len(study.directions) != 1:
        return None
    values = [trial.values[0] for trial in trials if trial.state == TrialState.COMPLETE]
    better = max if study.directions[0] == StudyDirection.MAXIMIZE else min
    return better(values, default=None)


def in_lines(rows: Sequence[Listed], now: float, width: int) -> list[str]:
    """Return a table of the studies, `width` columns wide, each verdict under its study."""
    cells = [[*map(_shown, _facts(row, now))] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(HEAD, *cells, strict=True)]
    rest = sum(widths[1:]) + 2 * len(widths[1:])
    widths[0] = max(len(HEAD[0]), min(widths[0], width - rest))
    lines = [_line(HEAD, widths)]
    for row, (name, *others) in zip(rows, cells, strict=True):
        if cell_len(name) > widths[0]:  # never truncated, so that it can be pasted
            lines.append(name)
            name = ""
        lines.append(_line([name, *others], widths))
        lines += textwrap.wrap(row.verdict, width - 4, initial_indent="  ", subsequent_indent="  ")
    return lines


def _facts(row: Listed, now: float) -> list[Any]:
    age = duration(now - row.last) if row.last else None
    counts = (row.complete, row.stopped, row.running, row.total)
    return [printable(row.study), row.kind, *counts, row.best, age]


def _shown(fact: Any) -> str:
    if isinstance(fact, float):
        return f"{fact:.4f}" if 1e-3 <= abs(fact) < 1e3 or not fact else f"{fact:.3g}"
    return "-" if fact is None else str(fact)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Left-align names and kinds, right-align numbers."""
    padding = [" " * (width - cell_len(cell)) for cell, width in zip(cells, widths, strict=True)]
    left = [cell + space for cell, space in zip(cells[:2], padding, strict=False)]
    right = [space + cell for cell, space in zip(cells[2:], padding[2:], strict=True)]
    return "  ".join([*left, *right])


def duration(seconds: float) -> str:
    """Return a duration in the largest unit of which it has at least one."""
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds // unit:.0f} {name}"
    return f"{max(0, seconds):.0f} s"
