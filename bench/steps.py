"""Time of a training step and an epoch by part: launches on the host, the device, the rest."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from fer.config import Config
from fer.data import Faces
from fer.training import checkpoint
from fer.training.evaluation import Validation
from fer.training.fit import Run, fit, progress, score, to_device, together
from fer.training.launch import open_stream

SIZES = (16, 64, 256)
STEPS = 32
# Minimum memory traffic per training image in bytes, if nothing stays in a cache: uint8 pixels,
# and what the blocks write and read in bfloat16 with activation and pooling fused.
IMAGE_BYTES = 1.6e6


@contextmanager
def _timed(into: dict[str, Any], name: str, times: int = 1) -> Iterator[None]:
    start = time.perf_counter()
    yield
    into[name] = (time.perf_counter() - start) / times


def _sync(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def where_time_goes(
    training: Faces, validation: Faces, device: torch.device, precision: str, quick: bool
) -> list[dict[str, Any]]:
    """Print and return the time of a step, a capture and the rest of an epoch, by batch size."""
    rows = []
    print("\ntime by batch size (a step in microseconds, the rest in ms per epoch)")
    print(
        f"  {'batch':>5}{'host':>9}{'whole':>9}{'replayed':>10}{'capture':>9}"
        f"{'draws':>9}{'scores':>8}{'saving':>8}{'concurrent runs: images/s':>32}"
    )
    sizes = SIZES[:2] if quick and device.type == "cpu" else SIZES
    for size in [each for each in sizes if each <= len(training)]:
        config = Config.model_validate(
            {"batch_size": size, "precision": precision, "epochs": 10_000, "threads": 1}
        )
        row = _measure(config, training, validation, device, quick)
        rows.append(row)
        lanes = "".join(f"{n:>4}:{speed:<8.0f}" for n, speed in row["lanes"].items())
        print(
            f"  {size:5}{1e6 * row['host']:9.0f}{1e6 * row['whole']:9.0f}"
            f"{_or_none(row.get('replayed'), 1e6):>10}{_or_none(row.get('capture'), 1e3):>9}"
            f"{1e3 * row['draws']:9.2f}{1e3 * row['scores']:8.1f}"
            f"{1e3 * row['kept']:8.1f}  {lanes}"
        )
    # Profile last: it distorts later timings.
    for row in rows:
        if count := row.get("kernels"):
            row["kernels"] = count()
            print(f"  a step of {row['batch']} images launches {row['kernels']} kernels")
    if device.type == "cuda":
        copied = _bandwidth(device)
        print(
            f"  memory bandwidth {copied / 1e12:.2f} TB/s: {IMAGE_BYTES / 1e6:.1f} MB per image "
            f"limit it to {copied / IMAGE_BYTES:.0f} images/s"
        )
    return rows


def _measure(
    config: Config, training: Faces, validation: Faces, device: torch.device, quick: bool
) -> dict[str, Any]:
    size = config.batch_size
    run = Run(config, training.take(torch.arange(min(len(training), size * STEPS))), device)
    next(fit(run, validation))  # warm-up: kernels, memory and optimizer
    stream = run.launcher.stream
    row: dict[str, Any] = {"batch": size}

    whole_batches = len(run.train) // size

    def steps(count: int) -> Callable[[], None]:
        def work() -> None:
            for i in range(count):
                if i % whole_batches == 0:
                    run.place.zero_()
                run.step(run, size)

        return work

    run.net.train()
    with stream.active():
        _sync(device)
        with _timed(row, "whole", STEPS):
            with _timed(row, "host", STEPS):
                steps(STEPS)()
            _sync(device)
        if stream.captures:
            with _timed(row, "capture"):
                replay = stream.capture(steps(stream.steps_at_once))
            replay()
            _sync(device)
            with _timed(row, "replayed", 4 * stream.steps_at_once):
                for _ in range(4):
                    replay()
                _sync(device)
            row["kernels"] = lambda: _kernels(replay) // stream.steps_at_once
    with _timed(row, "draws"):
        run.begin_epoch()
        _sync(device)
    whole = Run(config, training, device)
    kept = [next(fit(whole, validation))]
    on_device = Validation(to_device(validation, device), config)
    with stream.active(), _timed(row, "scores"):
        score(whole, on_device)
        _sync(device)
    with tempfile.TemporaryDirectory() as folder, _timed(row, "kept"):
        checkpoint.save(whole, kept, Path(folder) / "state.safetensors", "bench")
    counts = (1,) if device.type == "cpu" else ((1, 8) if quick else (1, 4, 8, 16))
    row["lanes"] = {n: _at_once(n, config, training, validation, device) for n in counts}
    return row


def _at_once(
    lanes: int, config: Config, training: Faces, validation: Faces, device: torch.device
) -> float:
    """Return training images/s of concurrent runs on this thread; the time includes validation."""
    warm, measured = (3, 3) if device.type == "cuda" else (1, 1)
    short = config.model_copy(update={"epochs": warm + measured})
    runs = [
        Run(short.model_copy(update={"seed": seed}), training, device, open_stream(device))
        for seed in range(lanes)
    ]
    start, done = 0.0, 0
    for _, epoch in together([progress(run, validation) for run in runs]):
        if epoch.number == warm and not start:
            start = time.perf_counter()
        elif start:
            done += len(runs[0].train)
    return done / (time.perf_counter() - start)


def _kernels(replay: Callable[[], object]) -> int:
    """Return how many kernels a graph launches."""
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        replay()
        torch.cuda.synchronize()
    return sum(str(event.device_type).endswith("CUDA") for event in profile.events() or [])


def _bandwidth(device: torch.device) -> float:
    """Return the bytes per second that a copy in device memory reads and writes."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device=device)
    into = torch.empty_like(source)
    into.copy_(source)
    _sync(device)
    start = time.perf_counter()
    for _ in range(10):
        into.copy_(source)
    _sync(device)
    return 20 * source.numel() / (time.perf_counter() - start)


def _or_none(seconds: float | None, factor: float) -> str:
    return "-" if seconds is None else f"{factor * seconds:.0f}"
