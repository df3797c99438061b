"""Retry while a database is unavailable: full disk, restarted server, lock."""

import functools
import threading
import time
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import DBAPIError, OperationalError

from fer.errors import UserError

PATIENCE = 90.0  # seconds to retry before giving up
PAUSE = 0.5  # seconds between attempts
BUSY = ("locked", "already exists", "unique constraint", "duplicate key", "no such table")
"""Error messages of a database whose tables another process is creating."""


class DatabaseAway(UserError):
    """The database stayed unavailable. What was stored in it is safe."""


class Waiting(Protocol):
    """An object that waits for its database."""

    lock: threading.RLock  # held while a method runs

    def waiting(self, reason: str, seconds: float) -> None:
        """Called before each retry with the seconds waited so far."""

    def check_presence(self) -> None:
        """Raise a UserError if waiting is pointless."""


Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Self = TypeVar("Self", bound=Waiting)
Method = Callable[Concatenate[Self, Parameters], Result]


def waits_while(
    why: Callable[[Any], str | None],
) -> Callable[[Method[Self, Parameters, Result]], Method[Self, Parameters, Result]]:
    """Retry a method for up to PATIENCE seconds while `why` returns a reason for its error.

    The method must be idempotent: a commit may succeed although the client saw an error. Only
    one thread runs it at a time. Raises DatabaseAway when time is up.
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
                            "what was stored is safe, run the same command to continue"
                        )
                    self.waiting(reason, now - start)
                    time.sleep(PAUSE)

        return call  # type: ignore[return-value]

    return decorate


def _is_wrapped(error: BaseException) -> bool:
    return isinstance(error, StorageInternalError)  # Optuna's storage wraps the cause


def why_away(error: Any) -> str | None:
    """Return the database's message if it is unreachable, else None."""
    return _words(error) if isinstance(error, OperationalError) else None


def why_busy(error: Any) -> str | None:
    """Return the database's message if another process is creating its tables, else None."""
    words = _words(error) if isinstance(error, DBAPIError) else ""
    return words if any(each in words.lower() for each in BUSY) else None


def _words(error: DBAPIError) -> str:
    return " ".join(str(error.orig).split())[:200]


patient = waits_while(why_away)


def say_nothing(reason: str, seconds: float) -> None:
    """Wait silently."""
