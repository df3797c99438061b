"""Notes in Markdown: what a study came to, and what each trial was."""

import re
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from study.analysis.answer import Answer, answer_of, confirmation_of
from study.analysis.sections import changed
from study.analysis.summary import complete_of, count_endings
from study.analysis.tables import code, markdown
from study.analysis.worth import more_trials
from study.page.overview import head_of, steps_now
from study.page.render import asked
from study.page.repeat import definition_in_words
from study.spec.identity import IDENTITY, Identity, in_words, is_search
from study.storage.records import CONTINUES, CONTINUES_FROM, ORIGIN, Result, kept
from study.storage.studies import COMMAND, current

KEPT_BELOW = "*Written anew at the end of a run. What you write below this line stays.*"
READING = (
    "A value is the mean of a trial's last {} epochs, of a pruned one too; the last report is in "
    "its curve. The pictures need `--artifact-dir`."
)
IMPORTANCE = (
    "Importance here is the dashboard's own: PED-ANOVA, a bar for each parameter. The report, and "
    "`importance.svg` after a minute of training, use fANOVA with ranges and take the parameters "
    "of one setting, such as the learning rates of all optimizers, together, so the order may "
    "differ."
)


def of_study(study: optuna.Study, studies: Sequence[optuna.Study], url: str) -> str:
    """The verdict on a study of the database at `url`, what it asked, and what to do next."""
    identity, complete = kept(study, IDENTITY), complete_of(study)
    answer, parts = answer_of(study, studies), list[str]()
    if is_search(identity) and complete:
        best, result = complete[0]
        parts = [
            *_next(study, studies, answer, url),
            f"### The best: trial {best.number}",
            of_trial(best, result, identity),
        ]
    words = answer.words.replace("<", "\\<")
    return _together(f"## {head_of(answer)[1]}", words, *parts, *_asked(study))


def of_new(study: optuna.Study) -> str:
    """What a study asks whose first trials run."""
    return _together("## No verdict yet", "It comes with the end of the run.", *_asked(study))


def _together(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)


def _asked(study: optuna.Study) -> list[str]:
    """What a study asks, and how to read what is shown of it."""
    identity = current(study) or {}
    trials = study.get_trials(deepcopy=False)
    return [
        "### What is asked",
        plain(f"{asked(identity, len(trials))} {count_endings(trials)}."),
        _made_by(study, identity),
        _definition(identity),
        "### In this dashboard",
        READING.format(identity.get("scored_epochs", 1)),
        IMPORTANCE if is_search(identity) else "",
    ]


def _next(
    study: optuna.Study, studies: Sequence[optuna.Study], answer: Answer, url: str
) -> list[str]:
    steps = steps_now(study, url, answer, confirmation_of(study.study_name, studies))
    lines = (
        f"- {why[:1].upper()}{why[1:]}{'' if why.endswith('?') else ':'} {code(line)}"
        for line, why in steps.items()
        if "optuna-dashboard" not in line
    )
    return [more_trials(study), "### What to do now", "\n".join(lines)]


def _made_by(study: optuna.Study, identity: Identity) -> str:
    command = study.user_attrs.get(COMMAND)
    words = [
        f"{kind} {plain(in_words(identity[kind]))}"
        for kind in ("sampler", "pruner")
        if kind in identity
    ]
    made = f"Made by {code(command)}" if command else "An older program made it"
    return f"{', '.join([made, *words])}."


def _definition(identity: Identity) -> str:
    """What was searched or compared, as a table."""
    found = definition_in_words(identity["space_definition"])
    rows = [[plain(name), plain(words)] for name, words in found.items()]
    return markdown([["searched" if is_search(identity) else "compared", ""], *rows])


def of_trial(trial: FrozenTrial, result: Result, identity: Identity) -> str:
    """What a complete trial reached, where its settings come from, and what they are."""
    metric, scored = identity.get("metric", "score"), identity.get("scored_epochs", 1)
    values = ", ".join(f"{plain(name)} {value:.4f}" for name, value in result.values.items())
    reached = (
        f"**{metric} {result.score or 0.0:.4f}**, the mean of its last {scored} epochs; its best "
        f"epoch was {result.epoch} of {result.epochs}: {result.best or 0.0:.4f}."
    )
    return "\n\n".join(
        (
            f"{reached} Beside it: {values}." if values else reached,
            _source(trial, result, by="Put in by hand" if is_search(identity) else "Compared as"),
            f"Settings: {plain(changed(trial, identity)) or 'those of the base'}.",
        )
    )


def _source(trial: FrozenTrial, result: Result, by: str) -> str:
    origin, first = trial.user_attrs.get(ORIGIN), kept(trial, CONTINUES)
    words = f"{by}: {plain(origin)}." if origin else "Proposed by the sampler."
    if first is not None:
        begun = kept(trial, CONTINUES_FROM, 0)
        after = f"trained on after epoch {begun}" if begun else "trained from the start"
        words += f" The second chance of trial {first}, which was stopped: {after}."
    if result.repeats is not None:
        where = f" of study {plain(result.repeats_study)}" if result.repeats_study else ""
        words += f" It was not trained: trial {result.repeats}{where} had these settings."
    return words


def above(written: str, old: str | None) -> str:
    """A new note over what a person wrote into the `old` one, all of which stays."""
    theirs = (old or "").rpartition(KEPT_BELOW)[2].strip()
    return f"{written}\n\n---\n{KEPT_BELOW}\n\n{theirs}".rstrip() + "\n"


def plain(words: Any) -> str:
    """Words without meaning to Markdown."""
    return re.sub(r"([\\`*\[\]<>|#~]|(?<!\w)_|_(?!\w))", r"\\\1", str(words))
