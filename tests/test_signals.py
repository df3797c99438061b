"""Signals and broken output streams stop training only at the end of an epoch."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from optuna.trial import TrialState

from bench.harness import has_report
from fer.signals import SAME, SIGNALS, Signals
from tests.conftest import process, trials

TRAIN = ("fer.train", "--subset", "150", "--threads", "1", "--no-onnx", "--out", "run")
HELD = ("study.run", "--study", "small", "--pipeline", "tests.blobs:held", "--workers", "1")
TALKING = tuple(word.replace(":held", ":talking") for word in HELD)  # its workers print
GENTLE = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)


@contextmanager
def running(*command: str, **streams: int) -> "Iterator[subprocess.Popen[str]]":
    """A command in a process group of its own, ended with the block at the latest."""
    line = [sys.executable, "-m", *command]
    with subprocess.Popen(line, text=True, start_new_session=True, **streams) as popen:  # type: ignore[call-overload]
        try:
            yield popen
        finally:
            if popen.poll() is None:
                os.killpg(popen.pid, signal.SIGKILL)


def wait_for_report(popen: "subprocess.Popen[str]") -> None:
    while not has_report(Path("studies.db")):
        assert popen.poll() is None
        time.sleep(0.02)


def test_fer_train_ends_its_epoch_after_a_signal_though_nobody_reads_it() -> None:
    pipe = subprocess.PIPE
    with running(*TRAIN, "--epochs", "300", stdout=pipe, stderr=pipe) as popen:
        assert popen.stdout is not None
        assert any(line.startswith("epoch   1") for line in popen.stdout)
        popen.stdout.close()  # as a terminal that is lost: every print fails from here on
        popen.send_signal(signal.SIGUSR1)
        assert popen.wait(60) == 128 + signal.SIGUSR1
        assert popen.stderr is not None
        assert "Traceback" not in popen.stderr.read()
    epochs = len(Path("run/metrics.csv").read_text().splitlines()) - 1
    assert 1 <= epochs < 300
    assert Path("run/checkpoint.safetensors").exists()


@pytest.mark.parametrize("number", GENTLE)
def test_a_study_ends_its_epochs_after_a_signal_to_the_whole_group(number: int) -> None:
    with running(*HELD, "--trials", "3") as popen:
        wait_for_report(popen)
        for _ in range(2):  # as timeout(1) and shells send them: one request
            os.killpg(popen.pid, number)
        Path("go on").touch()
        assert popen.wait(60) == 128 + number
    first = trials()[0]
    assert first.state == TrialState.WAITING
    assert list(first.intermediate_values) == [1, 2]  # the second was in flight
    assert process(*HELD, "--trials", "1").code == 0
    assert trials()[0].state == TrialState.COMPLETE


def test_a_study_whose_terminal_is_gone_continues_where_sighup_is_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup(1) does
    try:
        ours, theirs = os.openpty()
        with running(*HELD, "--trials", "2", stdout=theirs, stderr=theirs) as popen:
            os.close(theirs)
            wait_for_report(popen)
            os.close(ours)
            os.killpg(popen.pid, signal.SIGHUP)
            Path("go on").touch()
            assert popen.wait(60) == 0
    finally:
        signal.signal(signal.SIGHUP, before)
    assert [trial.state for trial in trials()[:2]] == [TrialState.COMPLETE] * 2


@pytest.mark.parametrize("where", ["a full disk", "a closed stream", "a reader that left"])
def test_a_study_that_finished_is_0_though_nobody_could_read_it(where: str) -> None:
    ends = {"a full disk": "> /dev/full 2>&1", "a closed stream": ">&- 2>&- <&-"}
    end = ends.get(where, "| head -1 > /dev/null; exit ${PIPESTATUS[0]}")
    line = " ".join([sys.executable, "-m", *TALKING, "--trials", "2", end])
    assert subprocess.run(["bash", "-c", line], check=False).returncode == 0
    assert [trial.state for trial in trials()[:2]] == [TrialState.COMPLETE] * 2


LISTING = "from fer import command; command.run(lambda: print('word\\n' * 100_000))"
SHORT = "from fer import command; command.run(lambda: print('word'))"


@pytest.mark.parametrize(
    ("code", "end", "exit_code", "says"),
    [
        (LISTING, "| head -1; exit ${PIPESTATUS[0]}", 141, ""),
        (LISTING, "> /dev/full", 2, "error: cannot write the output: No space left on device\n"),
        (SHORT, "> /dev/full", 2, "error: cannot write the output: No space left on device\n"),
        (SHORT, ">&-", 0, ""),
        (LISTING.replace("000)", "000), lasting=True"), "| head -1; exit ${PIPESTATUS[0]}", 0, ""),
    ],
)
def test_a_listing_ends_quietly_where_its_reader_left_and_says_if_it_is_lost(
    code: str, end: str, exit_code: int, says: str
) -> None:
    line = f'{sys.executable} -c "{code}" {end}'
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (exit_code, says)


def test_what_the_encoding_of_the_output_has_not_is_printed_as_escapes() -> None:
    code = "from fer import command; command.run(lambda: print('\\udcff\\u2603'))"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=True
    )
    assert done.stdout == b"\\udcff\\u2603\n"


def test_each_signal_has_its_notice_once_it_is_only_counted(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with Signals(counted=1, notices=("stopping", "stopped")) as signals:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGUSR1)
        assert capfd.readouterr().err == ""  # nothing has begun that could be lost
    with Signals(counted=1, notices=("stopping", "stopped")) as signals:
        signals.gently()
        signal.raise_signal(signal.SIGUSR1)
        assert capfd.readouterr().err == "stopping\n"
        time.sleep(1.5 * SAME)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGUSR1)
        assert capfd.readouterr().err == "stopped\n"


def test_signals_are_counted_then_raise_and_ignored_ones_stay_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals(counted=1) as signals:
            signals.gently()
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            signal.raise_signal(signal.SIGUSR2)
            signal.raise_signal(signal.SIGUSR2)  # of the group
            assert (signals.soon, signals.now) == (True, False)
            assert signals.exit_code == 128 + signal.SIGUSR2
            time.sleep(1.5 * SAME)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGTERM)
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
        assert signals._receive not in handlers.values()
    finally:
        signal.signal(signal.SIGHUP, before)
