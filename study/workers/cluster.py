"""Connect to a Ray cluster with a timeout, and report its loss in one line."""

import logging
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, NoReturn
from urllib.parse import urlsplit

from fer.errors import UserError
from fer.signals import SIGNALS

# Read by Ray at import, and by the processes it starts.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from ray._private import worker as rays_worker

CONNECT_SECONDS = 60.0  # timeout for connecting; a busy head takes 20 to start a client's server
ERRORS = 1 << 16  # bytes of Ray's messages to read
REFUSED = "InvalidAuthToken"  # in Ray's log; its exception does not say why
LOGGED = re.compile(r"^\[.*?\] \S+: (.*)$", re.MULTILINE)  # a line of Ray's C++ log
TOKEN = "set RAY_AUTH_MODE=token, and the cluster's token in RAY_AUTH_TOKEN or ~/.ray/auth_token"
GONE_SECONDS = 30.0  # the head may be unreachable; after 60 Ray would kill this process


@contextmanager
def connected(address: str) -> Iterator["Head"]:
    """Use the Ray cluster at `address`: "auto", "local", "host:port" or "ray://host:port".

    Raises UserError if there is none, or if its Python or Ray differ.
    """
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or "auto"
    _reach(address)
    rays_worker.print_to_stdstream = lambda *_, **__: None  # this program reports deaths itself
    with _signals_kept(), tempfile.TemporaryFile() as said, _errors_into(said):
        failed = _started() if address == "local" else _joined(address)
        # Ray's threads may still be writing: its file offset is theirs.
        errors = os.pread(said.fileno(), ERRORS, 0).decode(errors="replace")
    if failed is not None:
        raise UserError(f"--ray {address}: {_reason(failed, address, errors)}")
    if sys.stderr is not None:
        sys.stderr.write(errors)
    try:
        yield Head(address)
    finally:
        ray.shutdown()


def _started() -> Exception | None:
    """Start a local cluster. Its processes end with the thread that starts them."""
    return _init("local")


def _joined(address: str) -> Exception | None:
    """Connect in a thread, because Ray may wait forever."""
    failed: list[Exception | None] = []
    thread = threading.Thread(target=lambda: failed.append(_init(address)), daemon=True)
    thread.start()
    thread.join(CONNECT_SECONDS)
    return failed[0] if failed else TimeoutError(f"no Ray answered in {CONNECT_SECONDS:.0f} s")


def _init(address: str) -> Exception | None:
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # reported in one line, whatever it is
        return error
    return None


def _reason(failed: Exception, address: str, errors: str) -> str:
    """Return why a cluster could not be used, given what Ray wrote to standard error."""
    if REFUSED in errors:
        return f"the cluster requires its token: {TOKEN}"
    reason = " ".join(str(failed).split())
    if logged := LOGGED.findall(errors):
        reason += f" ({logged[-1]})"
    if address.startswith("ray://") and "RAY_AUTH_MODE" not in os.environ:  # a client is not told
        return f"{reason}; if the cluster wants a token, {TOKEN}"
    return reason


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Shield child processes from signals meant for this one, and undo Ray's signal handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, set(SIGNALS) - {signal.SIGTERM})
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)


def _flush_errors() -> None:
    if sys.stderr is not None:  # it may be closed
        sys.stderr.flush()


@contextmanager
def _errors_into(file: IO[bytes]) -> Iterator[None]:
    """Redirect standard error, including that of Ray's C++ threads, to a file."""
    _flush_errors()
    before = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        _flush_errors()
        os.dup2(before, 2)
        os.close(before)


def _reach(address: str) -> None:
    """Raise UserError if the address is invalid or nothing listens there."""
    if address in ("auto", "local"):
        return
    url = urlsplit(address if "://" in address else f"//{address}")
    try:
        place = url.hostname or "", url.port or 0
    except ValueError:
        place = "", 0
    if url.scheme not in ("", "ray") or not all(place):
        raise UserError(
            f"--ray must be auto, local, host:port or ray://host:port, got {address!r}"
        )
    try:
        socket.create_connection(place, timeout=CONNECT_SECONDS / 3).close()
    except OSError as error:
        raise UserError(f"--ray {address}: no cluster there ({error})") from None


class Head:
    """The head node of the cluster, which everything depends on."""

    def __init__(self, address: str) -> None:
        self._address, self._place = address, ("", 0)
        self._client = address.startswith("ray://")  # it notices a lost connection itself
        if not self._client:
            url = urlsplit(f"//{ray.get_runtime_context().gcs_address}")
            self._place = url.hostname or "", url.port or 0
        self._seen = time.monotonic()

    def answers(self) -> bool:
        """Whether the head is reachable now; otherwise any call to Ray would block.

        Raises UserError if it has been unreachable for too long.
        """
        error = self.unreachable()
        if error is None:
            self._seen = time.monotonic()
        elif time.monotonic() - self._seen > GONE_SECONDS:
            self.gone(error)
        return error is None

    def unreachable(self) -> OSError | None:
        """Return why the head cannot be reached; None if it can."""
        if self._client and not ray.is_initialized():
            return ConnectionError("the connection was lost")
        try:
            if self._place[1]:
                socket.create_connection(self._place, timeout=2.0).close()
        except OSError as error:
            return error
        return None

    def gone(self, error: Exception) -> NoReturn:
        """Raise UserError: the cluster is gone."""
        raise UserError(
            f"--ray {self._address}: the cluster's head is gone ({error}); what was stored is "
            "safe, run the same command to continue"
        ) from None
