"""Notes in Markdown: the verdict on a study, and a summary of each trial."""

import re
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from study.analysis.answer import answer_of
from study.analysis.next_steps import next_steps
from study.analysis.sections import changed
from study.analysis.summary import complete_of, count_endings
from study.analysis.tables import code, markdown
from study.analysis.worth import more_trials
from study.page.overview import head_of
from study.page.render import asked
from study.page.repeat import definition_in_words
from study.spec.identity import IDENTITY, Identity, in_words, is_search, kind_of
from study.spec.spec import Kind
from study.storage.records import CONTINUES, CONTINUES_FROM, ORIGIN, Result, kept
from study.storage.studies import COMMAND, current

KEPT_BELOW = "*Written anew at the end of a run. What you write below this line stays.*"
READING = (
    "A value is the mean of a trial's last {} epochs, also for pruned trials; single epochs are "
    "in its curve. Pictures need `--artifact-dir`."
)
IMPORTANCE = (
    "Importance here is the dashboard's own: PED-ANOVA, one bar per parameter. The report, and "
    "`importance.svg` after a minute of training, use fANOVA with ranges and merge the parameters "
    "of one setting, such as the learning rates of all optimizers, so the order may differ."
)


def of_study(study: optuna.Study, studies: Sequence[optuna.Study], url: str) -> str:
    """Return the verdict on a study of the database at `url`, its question, and the next steps."""
    identity, complete = kept(study, IDENTITY), complete_of(study)
    answer, parts = answer_of(study, studies), list[str]()
    if is_search(identity) and complete:
        best, result = complete[0]
        parts = [
            more_trials(study),
            *_next(study, studies, url),
            f"### Best trial: {best.number}",
            of_trial(best, result, identity),
        ]
    elif kind_of(identity) == Kind.CONFIRM:
        parts = _next(study, studies, url)
    words = answer.words.replace("<", "\\<")
    return _together(f"## {head_of(answer)[1]}", words, *parts, *_asked(study))


def of_new(study: optuna.Study) -> str:
    """Return the note on a new study."""
    return _together("## No verdict yet", "It is written when the run ends.", *_asked(study))


def _together(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)


def _asked(study: optuna.Study) -> list[str]:
    """Return the question of a study, and how to read the dashboard."""
    identity = current(study) or {}
    trials = study.get_trials(deepcopy=False)
    return [
        "### Question",
        plain(f"{asked(identity, len(trials))} {count_endings(trials)}."),
        _made_by(study, identity),
        _definition(identity),
        "### In this dashboard",
        READING.format(identity.get("scored_epochs", 1)),
        IMPORTANCE if is_search(identity) else "",
    ]


def _next(study: optuna.Study, studies: Sequence[optuna.Study], url: str) -> list[str]:
    lines = (
        f"- {why[:1].upper()}{why[1:]}{'' if why.endswith('?') else ':'} {code(line)}"
        for line, why in next_steps(study, studies, url).items()
        if "optuna-dashboard" not in line
    )
    return ["### Next steps", "\n".join(lines)]


def _made_by(study: optuna.Study, identity: Identity) -> str:
    command = study.user_attrs.get(COMMAND)
    words = [
        f"{kind} {plain(in_words(identity[kind]))}"
        for kind in ("sampler", "pruner")
        if kind in identity
    ]
    made = f"Trained by {code(command)}" if command else "Created by an older version"
    return f"{', '.join([made, *words])}."


def _definition(identity: Identity) -> str:
    """Return what was searched or compared, as a table."""
    found = definition_in_words(identity["space_definition"])
    rows = [[plain(name), plain(words)] for name, words in found.items()]
    return markdown([["searched" if is_search(identity) else "compared", ""], *rows])


def of_trial(trial: FrozenTrial, result: Result, identity: Identity) -> str:
    """Return the scores of a complete trial, the origin of its settings, and the settings."""
    metric, scored = identity.get("metric", "score"), identity.get("scored_epochs", 1)
    values = ", ".join(f"{plain(name)} {value:.4f}" for name, value in result.values.items())
    reached = (
        f"**{metric} {result.score or 0.0:.4f}**, the mean of its last {scored} epochs; its best "
        f"epoch was {result.epoch} of {result.epochs}: {result.best or 0.0:.4f}."
    )
    return "\n\n".join(
        (
            f"{reached} Other values: {values}." if values else reached,
            _source(trial, result, by="Added manually" if is_search(identity) else "Compared as"),
            f"Settings: {plain(changed(trial, identity)) or 'the base settings'}.",
        )
    )


def _source(trial: FrozenTrial, result: Result, by: str) -> str:
    origin, first = trial.user_attrs.get(ORIGIN), kept(trial, CONTINUES)
    words = f"{by}: {plain(origin)}." if origin else "Proposed by the sampler."
    if first is not None:
        begun = kept(trial, CONTINUES_FROM, 0)
        after = f"resumed after epoch {begun}" if begun else "trained from the start"
        words += f" Second chance of trial {first}, which was pruned: {after}."
    if result.repeats is not None:
        where = f" of study {plain(result.repeats_study)}" if result.repeats_study else ""
        words += f" Not trained: trial {result.repeats}{where} had the same settings."
    return words


def above(written: str, old: str | None) -> str:
    """Return a new note above the text that the user added to the `old` one."""
    theirs = (old or "").rpartition(KEPT_BELOW)[2].strip()
    return f"{written}\n\n---\n{KEPT_BELOW}\n\n{theirs}".rstrip() + "\n"


def plain(words: Any) -> str:
    """Escape Markdown."""
    return re.sub(r"([\\`*\[\]<>|#~]|(?<!\w)_|_(?!\w))", r"\\\1", str(words))
