"""A worker process: one thread that trains several trials concurrently, one per lane."""

import gc
import importlib
import math
import os
import pickle
import threading
import traceback
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from fer.output import output
from study.pipeline import Epoch, Mark, Mistake, Pipeline, Scored, Session
from study.spec.identity import hardware_of, installed_of, own_identity
from study.workers.messages import (
    Answer,
    Broken,
    Done,
    Imported,
    Job,
    Message,
    OfTrial,
    OutOfMemory,
    Ready,
    Task,
    Trained,
)

NAP = 2e-4  # seconds between looks at a device that is busy with all lanes


def main(handle: int, preload: str) -> None:
    """Run a worker process: receive a Task, then Jobs on its lanes, until the parent ends.

    `handle` is the file descriptor of its connection, `preload` a module to import before the
    task arrives. Its standard input ends with its parent.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    connection: Connection[Any, Any] = Connection(handle)
    with output(lasting=True):  # a trial must not fail because nobody reads its output
        with suppress(Exception):  # opening the pipeline will report it
            importlib.import_module(preload)
        with suppress(EOFError, OSError):  # the parent has ended
            connection.send(Imported())
            task: Task = connection.recv()
            session, ready = prepare(task)
            gc.freeze()  # keep collections from scanning the libraries again
            connection.send((0, ready))
            serve(connection, session)


def prepare(task: Task) -> tuple[Session, Ready]:
    """Open the pipeline and measure its speed. Any exception ends the process."""
    try:
        pipeline: Pipeline = pickle.loads(task.pipeline)
        session = pipeline.open(task.device)
        pace = session.pace(task.examples, task.lanes) if task.examples else None
        identity = own_identity(pipeline)
        return session, Ready(pace, session.memory, hardware_of(identity), installed_of(identity))
    except OSError as error:  # must not look like the end of the parent
        raise RuntimeError(f"the pipeline cannot be opened: {error}") from error


@dataclass
class Lane:
    """A trial in training, and what it is waiting for."""

    training: Generator[OfTrial | Mark]
    mark: Mark | None = None  # until the device reaches it
    asked: bool = False  # until the parent answers whether to go on


class Link(Protocol):
    """A worker's link to its parent: a connection, or its counterpart in an actor."""

    def poll(self, timeout: float | None) -> bool: ...

    def recv(self) -> tuple[int, Any]: ...

    def send(self, message: tuple[int, Message]) -> None: ...


def serve(connection: Link, session: Session) -> None:
    """Train the parent's jobs on the lanes in turn, and report every epoch."""
    lanes: dict[int, Lane] = {}
    moved = False
    while True:
        moving = {number: lane for number, lane in lanes.items() if not lane.asked}
        while connection.poll((0 if moved else NAP) if moving else None):
            number, message = connection.recv()
            match message:
                case Job():
                    moving[number] = lanes[number] = Lane(train(session, message))
                case Answer(go_on):
                    moving[number] = lanes[number]
                    lanes[number].asked = False
                    if not go_on:
                        lanes[number].training.close()
            moved = True
        moved = False
        for number, lane in moving.items():
            if lane.mark is not None and not lane.mark.query():
                continue
            moved = True
            news = advance(lane)
            if news is None:
                continue
            connection.send((number, news))
            lane.asked = isinstance(news, Trained)
            if not lane.asked:
                del lanes[number]


def advance(lane: Lane) -> OfTrial | None:
    """Advance a lane without blocking; return its message, if any."""
    item = next(lane.training, Done())
    lane.mark = None if isinstance(item, OfTrial) else item
    return item if isinstance(item, OfTrial) else None


def train(session: Session, job: Job) -> Generator[OfTrial | Mark]:
    """Train a trial, resuming it if it was interrupted; yield messages, and Marks to wait for.

    An exception ends only the trial that raised it.
    """
    note, first = "", True
    try:
        for item in session.train(job.settings, job.state, job.key):
            match item:
                case str():
                    note = item
                case Mark():
                    yield item
                case [*epochs]:
                    yield Trained([_plain(each) for each in epochs], note, resumed=True)
                    note, first = "", False
                case _:
                    if first and job.behind and not note:
                        note = "its checkpoint is missing: trained again from its seed"
                    yield Trained([_plain(item)], note)
                    note, first = "", False
    except MemoryError as error:
        yield OutOfMemory(" ".join(str(error).split())[:300] or "it says no more")
    except Exception as error:  # the parent stores and counts it
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}:{frame.lineno}"
        yield Broken(f"{type(error).__name__} at {place}", traceback.format_exc())


def _plain(epoch: Scored) -> Epoch:
    """Convert an epoch to plain types, which the parent can unpickle for any pipeline.

    Raises TypeError if it is not an epoch.
    """
    if not hasattr(epoch, "score"):
        raise TypeError(
            f"train must yield an Epoch, a list of them, a Mark or a str, got {epoch!r}"
        )
    values = {name: float(value) for name, value in epoch.values.items()}
    mistakes = getattr(epoch, "mistakes", ())
    return Epoch(
        int(epoch.number),
        float(epoch.score),
        values,
        float(epoch.seconds),
        bytes(getattr(epoch, "right", b"")),
        float(getattr(epoch, "holdout", math.nan)),
        [list(map(int, row)) for row in getattr(epoch, "confusion", ())],
        [Mistake(each.case, each.truth, each.said, each.sure) for each in mistakes],
    )


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)
