"""Searches started from a script or notebook."""

import sys
from collections.abc import Mapping
from typing import Any

import optuna
from pydantic import ValidationError

from fer.command import explain, prepare_libraries
from fer.errors import UserError
from fer.output import output
from study.analysis.answer import answer_of
from study.analysis.commands import say_next
from study.analysis.next_steps import next_steps
from study.analysis.summary import summary
from study.dashboard.show import show_study, show_trials
from study.engine.conduct import Request, conduct
from study.options import Name, Running, Search, deadline
from study.pipeline import Pipeline, check_members
from study.spec.spec import searching
from study.storage.studies import load_studies, load_study


class Options(Search, Running):
    """Options of `study.search`."""

    study: Name = None


def name_of(pipeline: Pipeline) -> str:
    """Return the --pipeline name of an object: its name in the module of its class."""
    name = type(pipeline).__module__
    for attribute, value in vars(sys.modules[name]).items():
        if value is pipeline and name != "__main__":
            return f"{name}:{attribute}"
    return "MODULE:OBJECT"


def search_from_python(
    pipeline: Pipeline,
    trials: int | None,
    storage: str,
    study: str | None,
    options: Mapping[str, Any],
) -> optuna.Study:
    """See `study.search`."""
    check_members(pipeline, "study.search")
    prepare_libraries()
    try:
        chosen = Options(trials=trials, storage=storage, study=study, **options)
    except ValidationError as error:
        raise UserError(explain(error, "study.search")) from None
    if chosen.change_search and chosen.study is None:
        raise UserError("change_search needs study: it continues a named study")
    spec = searching(pipeline, pipeline.name, chosen.epochs, chosen.seed, chosen.hand_made)
    request = Request(
        pipeline,
        spec,
        running=chosen,
        search=chosen,
        name=chosen.study,
        deadline=deadline(chosen),
        show=show_trials,
    )

    def conclude(found: optuna.Study) -> None:
        studies = load_studies(storage)
        answer = answer_of(found, studies)
        summary(found, spec.control, answer)
        say_next(next_steps(found, studies, storage, name_of(pipeline)))
        show_study(found, studies, storage)

    with output(lasting=True):
        done = conduct(request, conclude)
    if done.exit_code:
        raise KeyboardInterrupt
    return load_study(storage, done.name)
