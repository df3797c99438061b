"""The top of a page: the verdict, the cost, and the next steps."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import optuna

from study.analysis.answer import Answer
from study.analysis.expense import expense_of
from study.analysis.next_steps import next_steps
from study.analysis.summary import count_endings
from study.page.markup import (
    Html,
    card,
    command,
    items,
    paragraph,
    section,
    shown,
    table,
    tagged,
    within,
)
from study.page.svg import Axis, Figure, spread
from study.page.trials import Row, Trials, varied_settings
from study.spec.identity import Identity
from study.storage.records import ending
from study.storage.studies import COMMAND
from study.words import counted, describe_duration


def verdict(answer: Answer) -> Html:
    """Return the verdict on a study, with its interval as a figure."""
    if not answer.words:
        return Html()
    kind, head = head_of(answer)
    parts = [tagged("b", head), paragraph(answer.words), interval(answer)]
    return Html(f"<div class='card verdict {kind}'>{''.join(parts)}</div>")


def head_of(answer: Answer) -> tuple[str, str]:
    """Return the CSS class of a verdict, and its heading."""
    if answer.confirmed:
        return "yes", "The winner is real"
    if answer.confirmed is not None:
        if answer.is_worse:
            return "no", "The control is better"
        return "open", "No winner at this budget"
    if answer.gain is not None:
        return "open", "Not confirmed yet"
    return "", f"The claim: {answer.short}" if answer.short else "No verdict"


def interval(answer: Answer) -> Html:
    """Plot the gain over the hand-made settings in points, with its interval, relative to 0."""
    ends = (answer.gain, answer.low, answer.high)
    if any(end is None or not math.isfinite(end) for end in ends):
        return Html()
    gain, low, high = (end or 0.0 for end in ends)
    x = Axis("points above the hand-made settings", *spread((0.0, low, high), 0.12))
    figure = Figure(x, Axis("", names=("the best",)), height=86)
    figure.upright(0, "rule dashed")
    words = f"{gain:+.2f} points, 95% interval {low:+.2f} to {high:+.2f}"
    figure.interval(low, high, 0, "found strong", words)
    figure.point(gain, 0, "found", "diamond", words)
    return Html(figure.svg())


def cards(study: optuna.Study, identity: Identity, *more: Html) -> Html:
    """Return cards with trials, epochs, time, and savings by pruning; `more` cards come first."""
    trials = study.get_trials(deepcopy=False)
    spent = expense_of(trials, identity["epochs"])
    found = [*more, card("trials", len(trials), count_endings(trials))]
    whole = f"{identity['epochs']} per complete trial"
    found.append(card("epochs trained", f"{spent.epochs:,}", whole))
    if spent.seconds:
        clock = f"{describe_duration(spent.clock)} wall-clock" if spent.clock else ""
        found.append(card("training time", describe_duration(spent.seconds), clock))
    pruned = Counter(map(ending, trials))["pruned"]
    if pruned:
        note = f"{counted(pruned, 'pruned trial')}, all resumed later"
        if spent.saved_epochs:
            share = spent.saved_epochs / (spent.saved_epochs + spent.epochs)
            note = f"{share:.0%} of all, about {describe_duration(spent.saved_seconds)}, in "
            note += counted(pruned, "pruned trial")
        found.append(card("saved by pruning", counted(spent.saved_epochs, "epoch"), note))
    return within("cards", found)


def best_card(trials: Trials) -> Html:
    """Return the best trial's score and origin."""
    best = trials.complete[0]
    whose = best.origin or "found by the search"
    at = f"trial {best.number}, {whose}"
    return card(f"best {trials.metric}", f"{best.score:.4f}", at)


def made_by(study: optuna.Study) -> Html:
    """Return the command that trained a study."""
    line = study.user_attrs.get(COMMAND)
    if not line:
        return paragraph("Created by an older version, which stored no command.", "note")
    return Html(paragraph("Trained by", "note") + command(line))


def next_section(
    study: optuna.Study, studies: Sequence[optuna.Study], url: str, note: str = ""
) -> Html:
    """Return the next steps after a search or a confirmation, below a note."""
    lines = [
        Html(tagged("span", why[:1].upper() + why[1:]) + command(line))
        for line, why in next_steps(study, studies, url).items()
        if "study.report" not in line
    ]
    return section("Next steps", paragraph(note), items(lines, "ol"))


def warnings(said: Iterable[str]) -> Html:
    """Return the warnings of a careful reviewer."""
    lines = items(said)
    return section("Caveats", lines or paragraph("None."))


def settings_section(trials: Trials) -> Html:
    """Return the best found and the best hand-made trial: scores, and the settings that differ."""
    columns = columns_of(trials)
    rows: list[list[Any]] = [["", *columns]]
    rows.append([trials.metric, *(f"{row.score:.4f}" for row in columns.values())])
    for name in next(iter(columns.values())).values:
        rows.append([name, *(shown(row.values.get(name)) for row in columns.values())])
    alike = []
    for name in varied_settings(trials):
        values = [shown(row.settings.get(name)) for row in columns.values()]
        if len({*values}) > 1 or len(values) == 1:
            rows.append([name, *(tagged("strong", value) for value in values)])
        else:
            alike.append(f"{name} {values[0]}")
    note = paragraph(f"Same in both: {', '.join(alike)}." if alike else "", "note")
    return section("Best found and best hand-made settings", table(rows), note)


def columns_of(trials: Trials) -> dict[str, Row]:
    """Return the best found and the best hand-made trial, if they exist, the better one first."""
    found = next((row for row in trials.complete if not row.origin), None)
    both = [row for row in trials.complete if row is found or row is trials.hand]
    return {f"{row.origin or 'best found'}: trial {row.number}": row for row in both}
