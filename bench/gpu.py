"""The sections of `bench/gpu.sh`: each runs a command; results are written after each."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tyro

from fer import command
from fer.errors import UserError
from fer.files import write_file
from fer.strict_json import to_json

Section = Literal["study", "tests", "speed", "accuracy"]
GPU_TESTS = Path(__file__).resolve().parents[1] / "tests" / "test_gpu.py"
LINES = 15  # last lines of a section's output stored in the results


@dataclass(frozen=True)
class Options:
    """Run a study, the GPU tests, the benchmark and the accuracy comparison. Writes at most 8
    files."""

    out: Annotated[Path, tyro.conf.Positional]
    """Folder for results.json, a log per section, and the study's database."""
    data: Path | None = None
    """FER-2013 in any supported form; by default FER_DATA, ./data, or demo faces."""
    device: Literal["cpu", "cuda"] = "cuda"
    """Device to run on; cpu is for a dry run."""
    trials: int = 100
    """Trials of the study."""
    epochs: int = 30
    """Epochs per trial."""
    seeds: int = 5
    """Seeds of the accuracy comparison."""
    subset: int | None = None
    """Train on a subset of this many images."""
    only: tuple[Section, ...] = ()
    """Run only these sections; by default all."""
    patience: float = 1.0
    """Factor on the time limits of the sections, for a CPU."""


def main() -> None:
    options: Options = command.parse(Options, "bench.gpu")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {options.out}: {error.strerror}") from None
    results: dict[str, Any] = {"command": sys.argv[1:], "machine": machine(options.device)}

    chosen = options.only or get_args(Section)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for name, (limit, arguments) in sections(options, work).items():
            if name not in chosen:
                continue
            seconds = options.patience * limit
            print(f"{name} (at most {seconds:.0f} s)", flush=True)
            with utilisation(work / f"{name}.csv"):
                results[name] = ran(options.out / f"{name}.log", seconds, *arguments)
            if name == "study":
                results[name]["trials"] = copied(work / "studies.db", options.out / "studies.db")
            results[name] |= {
                "figures": read(work / f"{name}.json"),
                "utilisation": means(work / f"{name}.csv"),
            }
            write_file(options.out / "results.json", to_json(results, indent=2, default=str))
            print(
                f"  exit code {results[name]['exit_code']}, {results[name]['seconds']} s",
                flush=True,
            )
    # Without a GPU, pytest exits with 5: no tests collected.
    allowed = {"tests": (0, 5)} if options.device == "cpu" else {}
    failed = [name for name in chosen if results[name]["exit_code"] not in allowed.get(name, (0,))]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; see {options.out / 'results.json'}")


def sections(options: Options, work: Path) -> dict[Section, tuple[int, list[str]]]:
    """Return each section's time limit in seconds, and the arguments of Python that run it.

    A section that measures writes its figures to the folder `work`.
    """
    common = ["--device", options.device]
    if options.data:
        common += ["--data", str(options.data.resolve())]
    if options.subset is not None:
        common += ["--subset", str(options.subset)]
    epochs = ["--epochs", str(options.epochs)]
    study = [
        "-m", "study.run", "--study", "full", "--pruner", "none", "--split", "stratified",
        "--trials", str(options.trials), "--timeout", str(220 * options.patience),
        "--storage", f"sqlite:///{work}/studies.db",
    ]  # fmt: skip
    # Warnings of newer PyTorch versions must not fail, and xdist may be missing.
    tests = [
        "-m", "pytest", "-m", "gpu", "-o", "addopts=", "-o", "filterwarnings=default",
        "-p", "no:cacheprovider", "-ra", str(GPU_TESTS),
    ]  # fmt: skip
    speed = ["-m", "bench", "--quick", "--no-harness", "--json", str(work / "speed.json")]
    accuracy = [
        "-m", "bench.accuracy", "--seeds", str(options.seeds),
        "--json", str(work / "accuracy.json"),
    ]  # fmt: skip
    return {
        "study": (240, [*study, *epochs, *common]),
        "tests": (150, tests),
        "speed": (110, [*speed, *common]),
        "accuracy": (90, [*accuracy, *epochs, *common]),
    }


def ran(log: Path, limit: float, *arguments: str) -> dict[str, Any]:
    """Run Python with these arguments, logging to `log`; return its exit code and last lines."""
    start = time.monotonic()
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, *arguments], stdout=file, stderr=subprocess.STDOUT
        )
        try:
            code: int | str = process.wait(limit)
        except subprocess.TimeoutExpired:
            process.terminate()  # lets a study requeue its trials
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            code = f"stopped after {limit:.0f} s"
    return {
        "exit_code": code,
        "seconds": round(time.monotonic() - start, 1),
        "last_lines": log.read_text(errors="replace").splitlines()[-LINES:],
    }


def copied(database: Path, into: Path) -> dict[str, int]:
    """Copy a database including its write-ahead log; return its number of trials by state."""
    if not database.exists():
        return {}
    into.unlink(missing_ok=True)
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(into)) as target:
        source.backup(target)
        return dict(target.execute("SELECT state, COUNT(*) FROM trials GROUP BY state"))


def machine(device: str) -> dict[str, Any]:
    """Return the hardware and versions in use."""
    import torch

    found: dict[str, Any] = {"python": sys.version.split()[0], "torch": torch.__version__}
    found["cores"] = len(os.sched_getaffinity(0))
    if device == "cuda":
        from fer.training.device import choose, in_words, settle

        place = choose("cuda")
        from fer.config import Config

        found["computes"] = in_words(place, settle(Config(), place))
        found["bytes"] = torch.cuda.get_device_properties(0).total_memory
    return found


@contextmanager
def utilisation(into: Path) -> Iterator[None]:
    """Record GPU utilisation and memory use every second."""
    if shutil.which("nvidia-smi") is None:
        yield
        return
    query = ["nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "-l", "1"]
    with into.open("w") as file:
        sampling = subprocess.Popen([*query, "--format=csv,noheader,nounits"], stdout=file)
        try:
            yield
        finally:
            sampling.terminate()
            sampling.wait()


def means(samples: Path) -> dict[str, float]:
    """Return the mean utilisation in percent and the peak memory in MiB."""
    rows = []
    with suppress(FileNotFoundError):
        rows = [re.findall(r"\d+", line) for line in samples.read_text().splitlines()]
    numbers = [(int(row[0]), int(row[1])) for row in rows if len(row) == 2]
    if not numbers:
        return {}
    busy, memory = zip(*numbers, strict=True)
    return {"percent": sum(busy) / len(busy), "most_memory_mib": max(memory)}


def read(figures: Path) -> Any:
    """Return the JSON that a section wrote, or None if it wrote none."""
    return json.loads(figures.read_text()) if figures.exists() else None


if __name__ == "__main__":
    command.run(main)
