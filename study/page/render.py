"""A study as one self-contained HTML page: the order of its sections."""

from collections.abc import Mapping, Sequence
from typing import Any

import optuna

from study.analysis.advice import advice
from study.analysis.answer import answer_of, confirmation_of
from study.analysis.worth import more_trials
from study.page import overview
from study.page.classes import classes_section
from study.page.compared import compared, comparison_parts, title_of, values_section
from study.page.history import curves, history
from study.page.markup import Html, folded, page, paragraph, shown, table, tagged, within
from study.page.repeat import provenance, repeat_section, shortened
from study.page.settings import settings_section
from study.page.trials import Row, Trials, trials_of, varied_settings
from study.spec.identity import IDENTITY, Identity, is_search, kind_of
from study.spec.spec import Kind
from study.storage.records import CONTINUES, kept, scored
from study.words import counted

LISTED = 500  # trials listed in the table


def render(
    study: optuna.Study,
    studies: Sequence[optuna.Study],
    url: str,
    pictures: Mapping[int, Html],
) -> str:
    """Return the page for a study in the database at `url`, which contains `studies`.

    `pictures` maps indices of validation cases to images. The study must have a complete trial.
    """
    identity = kept(study, IDENTITY)
    parts = (
        search_parts(study, studies, url, pictures)
        if is_search(identity)
        else comparison(study, studies, url)
    )
    return page(study.study_name, *parts)


def search_parts(
    study: optuna.Study,
    studies: Sequence[optuna.Study],
    url: str,
    pictures: Mapping[int, Html],
) -> list[Html]:
    """Return the verdict first, then the next steps, then the evidence."""
    trials, answer = trials_of(study), answer_of(study, studies)
    identity = trials.identity
    again = confirmation_of(study.study_name, studies)
    return [
        tagged("h1", f"Study {study.study_name}"),
        paragraph(asked(identity, len(trials.rows)), "soft"),
        overview.verdict(answer),
        overview.cards(study, identity, overview.best_card(trials)),
        overview.made_by(study),
        overview.next_section(study, studies, url, more_trials(study)),
        overview.warnings(advice(study)),
        *([values_section(compared(again, studies), "The confirmation")] if again else []),
        overview.settings_section(trials),
        history(trials),
        curves(trials),
        settings_section(trials),
        classes_section(trials.complete[0], identity, pictures),
        all_trials(trials),
        repeat_section(study, identity, url, trials.complete[0].number),
        provenance(study, identity),
    ]


def comparison(study: optuna.Study, studies: Sequence[optuna.Study], url: str) -> list[Html]:
    """Return the verdict, the scores of each value, and how to reproduce them."""
    identity = kept(study, IDENTITY)
    ended = scored(study)
    first = min(trial.number for trial, _ in ended)
    confirms = kind_of(identity) == Kind.CONFIRM
    return [
        tagged("h1", title_of(identity)),
        paragraph(f"Study {study.study_name}: {asked(identity, len(ended))}", "soft"),
        overview.verdict(answer_of(study, studies)),
        overview.cards(study, identity),
        overview.made_by(study),
        *([overview.next_section(study, studies, url)] if confirms else []),
        *comparison_parts(study, studies),
        repeat_section(study, identity, url, first, "its first trial"),
        provenance(study, identity),
    ]


def asked(identity: Identity, count: int) -> str:
    """Return a sentence on what was trained on which data."""
    where = shortened(identity.get("data", "unnamed data"))
    subset = f"{identity['subset']:,} images of " if identity.get("subset") else ""
    split = f", {identity['split']} split" if identity.get("split") else ""
    epochs = counted(identity["epochs"], "epoch")
    drawn = " These faces are synthetic: the scores say nothing about FER-2013."
    note = drawn if identity.get("data") == "demo" else ""
    return f"{counted(count, 'trial')} of up to {epochs} on {subset}{where}{split}.{note}"


def all_trials(trials: Trials) -> Html:
    """Return a table with one row per trained trial, best first."""
    rows = sorted(
        (row for row in trials.rows if row.score is not None),
        key=lambda row: (not row.complete, -(row.score or 0.0)),
    )
    if not rows:
        return Html()
    names = varied_settings(trials)
    values = list(dict.fromkeys(name for row in rows for name in row.values))
    head = ["trial", "ending", "score", *values, "best epoch", "epochs", *names, "from"]
    body = [_cells(row, values, names) for row in rows[:LISTED]]
    left_out = trials.others
    note = [
        f"The best {LISTED} of {len(rows):,}." if len(rows) > LISTED else "",
        f"{counted(left_out, 'trial')} added by other programs omitted." if left_out else "",
    ]
    title = f"All {len(rows):,} trials, best first"
    lines = paragraph(" ".join(each for each in note if each), "note")
    every = folded(title, lines, table([head, *body], "values"))
    return within("screen", [every])  # too wide for paper


def _cells(row: Row, values: Sequence[str], names: Sequence[str]) -> list[Any]:
    result = row.result
    return [
        row.number,
        row.ending,
        f"{row.score:.4f}",
        *(shown(row.values.get(name)) for name in values),
        result.epoch if result else None,
        len(row.curve),
        *(shown(row.settings.get(name)) for name in names),
        came_from(row),
    ]


def came_from(row: Row) -> str:
    """Return the origin of a trial's settings, and the trial it continues or repeats."""
    words = [row.origin or "search"]
    if kept(row.trial, CONTINUES) is not None:
        words.append(f"second chance of trial {kept(row.trial, CONTINUES)}")
    if row.result and row.result.repeats is not None:
        words.append(f"result of trial {row.result.repeats} {row.result.repeats_study}".rstrip())
    return ", ".join(words)
