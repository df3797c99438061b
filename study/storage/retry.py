"""Waiting for a database that is away for a while: a full disk, a restarted server, a lock."""

import functools
import time
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import OperationalError

from fer.errors import UserError

PATIENCE = 90.0  # seconds until a database that does not come back ends the program
PAUSE = 0.5  # seconds between two tries


class DatabaseAway(UserError):
    """The database did not come back. What was stored in it is safe."""


class Waiting(Protocol):
    """What waits for its database."""

    def waiting(self, reason: str, seconds: float) -> None:
        """Told before each new try, with the seconds it has been waiting."""


Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Self = TypeVar("Self", bound=Waiting)


def patient(
    method: Callable[Concatenate[Self, Parameters], Result],
) -> Callable[Concatenate[Self, Parameters], Result]:
    """Call the method again while the database is away, for PATIENCE seconds.

    The method must be idempotent: a commit may succeed although the client saw an error. Raises
    DatabaseAway in the end.
    """

    @functools.wraps(method)
    def call(self: Self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        start: float | None = None
        while True:
            try:
                return method(self, *args, **kwargs)
            except (OperationalError, StorageInternalError) as error:
                reason = why_away(error)
                if reason is None:
                    raise
                now = time.monotonic()
                start = start or now
                waited = now - start
                if waited > PATIENCE:
                    raise DatabaseAway(
                        f"the storage is out of reach for {PATIENCE:.0f} s: {reason}; what was "
                        "stored is safe, the same command continues"
                    ) from None
            self.waiting(reason, waited)
            time.sleep(PAUSE)

    return call  # type: ignore[return-value]


def why_away(error: BaseException) -> str | None:
    """The database's own words if `error` says that it is out of reach, else None."""
    cause: Any = error.__cause__ if isinstance(error, StorageInternalError) else error
    if not isinstance(cause, OperationalError):
        return None
    return " ".join(str(cause.orig).split())[:200]
