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
"""Start workers for at most that many concurrent trials, using spare processes if given."""


@contextmanager
def hiring(pipeline: Pipeline, spec: Spec, running: Running) -> Iterator[Hire]:
    """Yield a function that starts the workers; with --ray, stay connected during the block.

    Raises UserError if there is no cluster at the address.
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
        raise UserError("--ray needs Ray: pip install -e '.[ray]'") from None

    with connected(running.ray) as head:

        def actors(trials: int, spare: list[Started] | None) -> Workers:
            # Ray places as many as the cluster has room for, and more when nodes join.
            lanes = min(running.workers or trials, trials)
            return RayPool(head, pipeline, lanes, spec.examples())

        yield actors
