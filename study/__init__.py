"""Hyperparameter studies of any training pipeline, FER-2013's by default.

import study
from examples.digits import pipeline

search = study.search(pipeline, trials=50, storage="sqlite:///digits.db")
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna

    from study.pipeline import Pipeline

__all__ = ["search"]


def search(
    pipeline: "Pipeline",
    *,
    trials: int | None = None,
    storage: str = "sqlite:///studies.db",
    study: str | None = None,
    **options: Any,
) -> "optuna.Study":
    """Search the space of a pipeline until `trials` of the study's trials are finished: 100, or
    without end under `budget_epochs`.

    What `python -m study.run` does, from a script or a notebook: the same call continues an
    interrupted study. `options` are those of the command that say how a study is run, by their
    names: epochs, workers, timeout, checkpoints, budget_epochs, sampler, pruner, change_search,
    seed, hand_made, duplicates.
    Raises UserError for a value that an option cannot have or a study that cannot be continued,
    and KeyboardInterrupt, with everything stored, if Ctrl-C stopped it.
    """
    from study.library import search_from_python

    return search_from_python(pipeline, trials, storage, study, options)
