"""Workers forked from the test process, which has already loaded PyTorch.

They run the same code as real workers behind the same pipes, and are killed and replaced like
them; only interpreter startup is skipped, two seconds of CPU time each. Commands that a test runs
as a subprocess start their workers as usual.
"""

import faulthandler
import os
import signal
import traceback
import warnings
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from fer.signals import SIGNALS
from study.workers import worker


class Forked:
    """A forked worker, which exits when the pipe on its standard input closes."""

    def __init__(self, pid: int, lifeline: int) -> None:
        self._pid, self._lifeline = pid, lifeline
        self._code: int | None = None

    def kill(self) -> None:
        if self._code is None:
            os.kill(self._pid, signal.SIGKILL)

    def wait(self) -> int:
        if self._code is None:
            _, status = os.waitpid(self._pid, 0)
            self._code = os.waitstatus_to_exitcode(status)
            os.close(self._lifeline)
        return self._code


def fork_worker(preload: str) -> "tuple[Forked, Connection[Any, Any]]":
    """Like `study.workers.pool.start_process`, but forks."""
    ours, theirs = Pipe()
    end, lifeline = os.pipe()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # about pytest-xdist's thread
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            faulthandler.disable()  # pytest's: do not report intended crashes
            os.dup2(end, 0)
            os.close(lifeline)
            ours.close()
            worker.main(theirs.fileno(), preload)
            code = 0
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(code)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.close(end)
    theirs.close()
    return Forked(pid, lifeline), ours
