"""Waiting for a database that is away for a while: a full disk, a restarted server, a lock."""

import functools
import threading
import time
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import DBAPIError, OperationalError

from fer.errors import UserError

PATIENCE = 90.0  # seconds until a database that does not come back ends the program
PAUSE = 0.5  # seconds between two tries
BUSY = ("locked", "already exists", "unique constraint", "duplicate key", "no such table")
"""What a database says of which another process is just making the tables."""


class DatabaseAway(UserError):
    """The database did not come back. What was stored in it is safe."""


class Waiting(Protocol):
    """What waits for its database."""

    lock: threading.RLock  # held while a method runs

    def waiting(self, reason: str, seconds: float) -> None:
        """Told before each new try, with the seconds it has been waiting."""

    def check_presence(self) -> None:
        """Raise a UserError if nothing is left to wait for."""


Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Self = TypeVar("Self", bound=Waiting)
Method = Callable[Concatenate[Self, Parameters], Result]


def waits_while(
    why: Callable[[Any], str | None],
) -> Callable[[Method[Self, Parameters, Result]], Method[Self, Parameters, Result]]:
    """Call a method again, for PATIENCE seconds, while `why` gives a reason for its error.

    The method must be idempotent: a commit may succeed although the client saw an error. Only
    one thread runs it at a time. Raises DatabaseAway in the end.
    """

    def decorate(method: Method[Self, Parameters, Result]) -> Method[Self, Parameters, Result]:
        @functools.wraps(method)
        def call(self: Self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
            start: float | None = None
            with self.lock:
                while True:
                    try:
                        return method(self, *args, **kwargs)
                    except (DBAPIError, StorageInternalError, KeyError) as error:
                        self.check_presence()
                        reason = why(error.__cause__ if _is_wrapped(error) else error)
                        if reason is None:
                            raise
                    now = time.monotonic()
                    start = start or now
                    if now - start > PATIENCE:
                        raise DatabaseAway(
                            f"the storage has been unreachable for {PATIENCE:.0f} s: {reason}; "
                            "what was stored is safe, the same command continues"
                        )
                    self.waiting(reason, now - start)
                    time.sleep(PAUSE)

        return call  # type: ignore[return-value]

    return decorate


def _is_wrapped(error: BaseException) -> bool:
    return isinstance(error, StorageInternalError)  # Optuna's own storage hides the cause


def why_away(error: Any) -> str | None:
    """The database's own words if `error` says that it is out of reach, else None."""
    return _words(error) if isinstance(error, OperationalError) else None


def why_busy(error: Any) -> str | None:
    """The database's own words if `error` says that others are making its tables, else None."""
    words = _words(error) if isinstance(error, DBAPIError) else ""
    return words if any(each in words.lower() for each in BUSY) else None


def _words(error: DBAPIError) -> str:
    return " ".join(str(error.orig).split())[:200]


patient = waits_while(why_away)


def say_nothing(reason: str, seconds: float) -> None:
    """Say nothing while the database is away."""
