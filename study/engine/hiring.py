"""Where the workers of a study come from: this machine, or a Ray cluster."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from fer.errors import UserError
from study.options import Running
from study.pipeline import Pipeline
from study.spec.spec import Spec
from study.workers.pool import Pool, Started, default_lanes
from study.workers.protocol import Workers

Hire: TypeAlias = Callable[[int, list[Started] | None], Workers]
"""Workers for at most so many trials at once, with processes that are started already."""


@contextmanager
def hiring(pipeline: Pipeline, spec: Spec, running: Running) -> Iterator[Hire]:
    """What gets the workers, with a cluster connected for as long as the block runs if one is
    asked for.

    Raises UserError if there is none at its address.
    """
    if running.ray is None:

        def processes(trials: int, spare: list[Started] | None) -> Workers:
            lanes = min(running.workers or default_lanes(pipeline), trials)
            return Pool(pipeline, lanes, spec.examples(), spare=spare)

        yield processes
        return
    try:
        from study.workers.cluster import connected
        from study.workers.ray_pool import RayPool
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise UserError("--ray needs Ray: pip install 'fer-study[ray]'") from None

    with connected(running.ray) as head:

        def actors(trials: int, spare: list[Started] | None) -> Workers:
            # Ray has places for some of them, and more as nodes join.
            lanes = min(running.workers or trials, trials)
            return RayPool(head, pipeline, lanes, spec.examples())

        yield actors
