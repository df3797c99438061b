"""Summary of a search: how its trials ended, the best next to the control."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.table import Table

from fer.output import say
from study.analysis import overtuning
from study.analysis.answer import Answer
from study.analysis.tables import own_console
from study.analysis.worth import more_trials
from study.spec.identity import IDENTITY
from study.storage.records import ORIGIN, Result, ending, kept, result_of, scored, settings_of
from study.words import counted


def count_endings(trials: list[FrozenTrial]) -> str:
    """Count the trials by how they ended, in words."""
    counts = Counter(map(ending, trials))
    words = [f"{counted(counts['complete'], 'trial')} complete, {counts['pruned']} pruned"]
    for kind in (
        "diverged",
        "out of memory",
        "out of the race",
        "failed",
        "running",
        "interrupted",
    ):
        if counts[kind]:
            words.append(f"{counts[kind]} {kind}")
    if counts["waiting"]:  # a study queues its initial settings all at once
        words.append(f"{counts['waiting']} queued")
    results = [result_of(trial) for trial in trials]
    repeats = sum(result is not None and result.repeats is not None for result in results)
    if repeats:
        words.append(f"{repeats} of them reused from trials with the same settings")
    if counts["failed"]:
        words.append("failed ones do not count")
    return ", ".join(words)


def complete_of(study: optuna.Study) -> list[tuple[FrozenTrial, Result]]:
    """Return the complete trials with a result, best first."""
    complete = [each for each in scored(study) if each[0].state == TrialState.COMPLETE]
    return sorted(complete, key=lambda each: -(each[1].score or 0.0))


def summary(study: optuna.Study, control: str, answer: Answer) -> None:
    """Print the best trial, the best found, the best hand-made one and the `control` next to each
    other, the verdict, and the expected gain of more trials."""
    print()
    say(count_endings(study.get_trials(deepcopy=False)))
    complete = complete_of(study)
    if not complete:
        say("no trial is complete yet, so there is no best one")
        return
    best, best_result = complete[0]
    columns = side_by_side(complete, control)
    table = Table("", *columns, header_style="bold")
    results = [result for _, result in columns.values()]
    metric = kept(study, IDENTITY).get("metric", "score")
    table.add_row(metric, *(f"{result.score:.4f}" for result in results))
    for name in best_result.values:
        table.add_row(name, *(_shown(result.values.get(name)) for result in results))
    table.add_row(
        "best epoch",
        *(f"{_shown(each.best)} (epoch {each.epoch} of {each.epochs})" for each in results),
        end_section=True,
    )
    settings = [settings_of(trial) for trial, _ in columns.values()]
    for name in setting_names(best, settings):
        table.add_row(name, *(_shown(each.get(name)) for each in settings))
    own_console().print(table)
    said = (answer.words, overtuning.in_words(study), more_trials(study))
    for line in filter(None, said):
        say(line)


def side_by_side(
    complete: Sequence[tuple[FrozenTrial, Result]], control: str
) -> dict[str, tuple[FrozenTrial, Result]]:
    """Return the best found trial, the best hand-made one and the control by their labels, best
    first."""
    labels = [trial.user_attrs.get(ORIGIN, "") for trial, _ in complete]
    by_hand = next(filter(None, labels), "")
    wanted = [place for label in ("", by_hand, control) for place in _first(labels, label)]
    return {
        f"{labels[place] or 'best found'}: trial {complete[place][0].number}": complete[place]
        for place in sorted({*wanted})
    }


def _first(labels: Sequence[str], label: str) -> list[int]:
    """Return the first place of a label, if any."""
    return [labels.index(label)] if label in labels else []


def setting_names(trial: FrozenTrial, settings: list[dict[str, Any]]) -> list[str]:
    """Return the names of the settings that the study varies, then of others that differ."""
    varied = [name for name in settings[0] if name in trial.params]
    given = [name for name in settings[0] if any(key.endswith(f"_{name}") for key in trial.params)]
    differing = [
        name for name in settings[0] if len({str(each.get(name)) for each in settings}) > 1
    ]
    return list(dict.fromkeys((*varied, *given, *differing)))


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "-" if value is None else str(value)
