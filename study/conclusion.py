"""What came out of a search: how its trials ended, the best beside the report's, what is next."""

import math
from collections import Counter
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.table import Table

from study import storage as store
from study.display import SHOWN, counted, own_console
from study.run import Options
from study.space import HAND_MADE, HAND_TUNED, RECIPES
from study.trial import ending


def count_endings(trials: list[FrozenTrial]) -> str:
    """How many trials ended how, in words."""
    counts = Counter(map(ending, trials))
    words = [f"{counted(counts['complete'], 'trial')} complete, {counts['pruned']} pruned"]
    for kind in ("diverged", "out of memory", "failed", "running", "interrupted", "waiting"):
        if counts[kind]:
            words.append(f"{counts[kind]} {kind}")
    repeats = sum("repeats" in trial.user_attrs.get(store.RESULT, {}) for trial in trials)
    if repeats:
        words.append(f"{repeats} of them with earlier settings, not trained again")
    if counts["failed"]:
        words.append("failed ones do not count")
    return ", ".join(words)


def summary(study: optuna.Study, validation_images: int) -> None:
    """The best trial beside the report's final settings."""
    console = own_console()
    trials = study.get_trials(deepcopy=False)
    console.print(f"\n{count_endings(trials)}", soft_wrap=True)
    # Whoever tells a trial through the dashboard leaves no result.
    complete = [
        trial
        for trial in trials
        if trial.state == TrialState.COMPLETE and store.RESULT in trial.user_attrs
    ]
    if not complete:
        console.print("no trial ran to its end yet, so there is no best one")
        return
    best = max(complete, key=lambda trial: trial.value or 0.0)
    hand = next(
        (trial for trial in complete if trial.user_attrs.get(store.ORIGIN) == HAND_TUNED), None
    )
    columns = {f"best: trial {best.number}": best}
    if hand is not None:
        columns[f"the report's settings: trial {hand.number}"] = hand
    table = Table("", *columns, header_style="bold")
    results = [trial.user_attrs[store.RESULT] for trial in columns.values()]
    for label, key in (
        ("validation accuracy", "accuracy"),
        ("macro-F1", "macro_f1"),
        ("balanced accuracy", "balanced_accuracy"),
    ):
        table.add_row(label, *(f"{result[key]:.4f}" for result in results))
    table.add_row("epoch", *(f"{r['epoch']} of {r['epochs']}" for r in results), end_section=True)
    settings: list[dict[str, Any]] = [t.user_attrs[store.CONFIG] for t in columns.values()]
    differing = [key for key in settings[0] if len({str(each[key]) for each in settings}) > 1]
    for key in dict.fromkeys((*SHOWN, *differing)):
        table.add_row(
            key,
            *(f"{each[key]:.3g}" if key == "lr" else str(each[key]) for each in settings),
        )
    console.print(table)
    console.print(
        f"{verdict(complete)}; one standard error is "
        f"{100 * standard_error(best.value or 0.0, validation_images):.2f} points "
        f"({validation_images} validation images).\n"
        "The best of many trials is flattered by its selection: the test split decides.",
        soft_wrap=True,
    )


def standard_error(accuracy: float, images: int) -> float:
    """Of an accuracy on so many images, in 0..1."""
    return math.sqrt(accuracy * (1 - accuracy) / images)


def verdict(complete: list[FrozenTrial]) -> str:
    """Whether the best of some complete trials was found by the search, or put in by hand."""
    best = max(complete, key=lambda trial: trial.value or 0.0)
    origins = [trial.user_attrs.get(store.ORIGIN) for trial in complete]
    hand = [
        trial.value or 0.0 for trial in complete if trial.user_attrs.get(store.ORIGIN) in HAND_MADE
    ]
    if all(origin in HAND_MADE for origin in origins):
        return "Only the report's own settings ran to the end: the search has found nothing better"
    if not hand:
        return "None of the report's settings ran to the end, so nothing was beaten"
    gain = 100 * ((best.value or 0.0) - max(hand))
    if best.user_attrs.get(store.ORIGIN) in HAND_MADE:
        return "The best is one of the report's own settings: the search has not beaten the hand"
    if best.user_attrs.get(store.ORIGIN) in RECIPES:
        return (
            f"The best is a recipe that the study began with, {gain:+.2f} points against the "
            "best of the report's settings"
        )
    return f"The search beat the best of the report's settings by {gain:.2f} points"


def next_commands(study: optuna.Study, options: Options) -> None:
    """The commands that make a model of the study's best trial, if there is one."""
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        return
    default = options.storage == store.DEFAULT_URL
    where = "" if default else f" --storage {store.hidden(options.storage)}"
    images = f" --data {options.data}" if options.data else ""
    images += f" --split {options.split}" if options.split != "grouped" else ""
    removed = f" --remove {' '.join(options.remove)}" if options.remove else ""
    test = f" --data {options.data}" if options.data else ""
    print(
        "\nnext:\n"
        f"  python -m study.export --study {study.study_name}{where} --out best.yaml\n"
        f"  python -m fer.train --config best.yaml --out runs/final{images}{removed}\n"
        f"  python -m fer.evaluate runs/final{test}\n"
        f"  optuna-dashboard {store.hidden(options.storage)}"
    )
