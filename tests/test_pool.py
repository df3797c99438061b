"""The worker pool without processes: dead workers are replaced; messages arrive by lane."""

import pickle
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from study.workers.messages import Answer, Died, Done, Imported, Job, Ready, Task
from study.workers.pool import FAILED_STARTS, KILLED_STARTS, Pool, default_lanes, in_words
from study.workers.worker import prepare
from tests.blobs import Blobs

JOB = Job({"rule": "plain"}, Path("x.state"), "x")


@dataclass
class Faked:
    """A worker at the other end of a connection, which says what a test lets it say."""

    connection: "Connection[Any, Any]"
    exit_code: int = 0
    killed: bool = False

    def kill(self) -> None:
        self.killed = True

    def wait(self) -> int:
        return self.exit_code

    def dies(self, exit_code: int) -> None:
        self.exit_code = exit_code
        self.connection.close()


@dataclass
class Starter:
    """Starts faked workers."""

    started: list[Faked] = field(default_factory=list)

    def __call__(self, preload: str) -> "tuple[Faked, Connection[Any, Any]]":
        assert preload == "tests.blobs"
        ours, theirs = Pipe()
        self.started.append(Faked(theirs))
        return self.started[-1], ours


@pytest.fixture
def starter() -> Iterator[Starter]:
    starter = Starter()
    yield starter
    for worker in starter.started:
        worker.connection.close()


def test_a_worker_gets_the_pipeline_once_it_has_loaded_its_libraries(starter: Starter) -> None:
    with Pool(Blobs(), 2, [{"lr": 0.1}], starter) as pool:
        assert len(starter.started) == len(pool) == 2
        first = starter.started[0]
        assert not first.connection.poll()
        first.connection.send(Imported())
        assert list(pool.messages(0)) == []
        task = first.connection.recv()
        assert pickle.loads(task.pipeline) == Blobs()
        assert (task.device, task.lanes, task.examples) == ("cpu", 1, [{"lr": 0.1}])
    assert [worker.killed for worker in starter.started] == [True, True]


def test_lanes_of_a_device_share_a_process_and_news_come_by_lane(starter: Starter) -> None:
    gpus = Blobs(devices=("cuda:0", "cuda:1"))
    with Pool(gpus, 5, [], starter) as pool:
        first, second = starter.started
        assert [pool.process_of(lane) for lane in range(5)] == [0, 1, 0, 1, 0]
        second.connection.send((0, Ready(2.0)))
        assert list(pool.messages(0)) == [(1, Ready(2.0)), (3, Ready(2.0))]
        pool.start(4, JOB)
        pool.answer(4, go_on=False)
        assert [first.connection.recv(), first.connection.recv()] == [(2, JOB), (2, Answer(False))]
        first.connection.send((2, Done()))
        assert list(pool.messages(0)) == [(4, Done())]
        first.connection.send(Imported())
        assert list(pool.messages(0)) == []
        task = first.connection.recv()
        assert isinstance(task, Task)
        assert (task.device, task.lanes) == ("cuda:0", 3)


def test_idle_workers_for_which_no_trial_is_left_are_ended(starter: Starter) -> None:
    with Pool(Blobs(devices=("cuda:0", "cuda:1", "cuda:2")), 5, [], starter) as pool:
        assert pool.need(9, busy=[]) == pool.need(3, busy=[]) == []
        assert pool.need(2, busy=[2]) == [1, 4]  # one process for each trial, however many lanes
        assert [worker.killed for worker in starter.started] == [False, True, False]
        assert pool.awaited == [0, 3, 2]
        starter.started[2].connection.send((0, Done()))
        assert list(pool.messages(0)) == [(2, Done())]
        assert pool.need(0, busy=[]) == [2]
        assert pool.need(0, busy=[]) == []
    assert [worker.killed for worker in starter.started] == [True, True, True]


def test_a_worker_that_dies_is_replaced_by_one_that_measures_nothing(starter: Starter) -> None:
    with Pool(Blobs(), 1, [{"lr": 0.1}], starter) as pool:
        starter.started[0].connection.send((0, Ready(1.0)))
        assert list(pool.messages(0)) == [(0, Ready(1.0))]
        starter.started[0].dies(-signal.SIGKILL)
        ((_, died),) = pool.messages(0)
        assert isinstance(died, Died)
        assert list(died.lanes) == [0]
        assert "SIGKILL" in died.reason
        pool.answer(0, go_on=True)  # to whoever it concerned
        other = starter.started[1]
        other.connection.send(Imported())
        assert list(pool.messages(0)) == []
        other.connection.recv()
        assert other.connection.recv().examples == ()


@pytest.mark.parametrize(
    ("exit_code", "most"), [(1, FAILED_STARTS), (-signal.SIGKILL, KILLED_STARTS)]
)
def test_workers_that_die_before_any_is_ready_end_the_study(
    exit_code: int, most: int, starter: Starter
) -> None:
    with Pool(Blobs(), 1, [], starter) as pool:
        for _ in range(most - 1):
            starter.started[-1].dies(exit_code)
            assert len(list(pool.messages(0))) == 1
        starter.started[-1].dies(exit_code)
        with pytest.raises(RuntimeError, match=f"{most} worker processes ended before"):
            list(pool.messages(0))


def test_workers_that_die_together_while_they_train_are_all_replaced(starter: Starter) -> None:
    with Pool(Blobs(), FAILED_STARTS, [], starter) as pool:
        for worker in starter.started[:FAILED_STARTS]:
            worker.connection.send((0, Ready(1.0)))
        while list(pool.messages(0)):
            pass
        for worker in starter.started[:FAILED_STARTS]:
            worker.dies(-signal.SIGSEGV)
        assert len(list(pool.messages(0))) == FAILED_STARTS
        assert len(starter.started) == 2 * FAILED_STARTS


def test_a_processor_gets_a_process_a_core_and_a_gpu_many_lanes() -> None:
    assert default_lanes(Blobs()) >= 1
    assert default_lanes(Blobs(devices=("cuda:0", "cuda:1"))) == 32


def test_the_end_of_a_process_in_words() -> None:
    assert in_words(3) == "its worker ended with exit code 3"
    assert in_words(-signal.SIGSEGV) == "its worker was ended by SIGSEGV"


def test_processes_that_were_started_early_are_used_and_those_left_over_end(
    starter: Starter,
) -> None:
    spare = [starter("tests.blobs") for _ in range(3)]
    with Pool(Blobs(), 2, [], starter, spare):  # type: ignore[arg-type]
        assert len(starter.started) == 3
        assert [worker.killed for worker in starter.started] == [True, False, False]
        assert spare == []


def test_a_pipeline_that_cannot_be_opened_ends_its_worker_with_a_traceback() -> None:
    class Unopened(Blobs):
        def open(self, device: str) -> Blobs:
            raise FileNotFoundError("no data.npy")

    task = Task(cloudpickle.dumps(Unopened()), "cpu", 1, [])
    with pytest.raises(RuntimeError, match=r"cannot be opened: no data\.npy"):
        prepare(task)
