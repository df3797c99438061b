"""Studies of any pipeline: from the commands, a script, a notebook."""

import ast
import base64
import importlib
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import nbformat
import numpy as np
import optuna
import psutil
import pytest
import yaml
from nbclient import NotebookClient
from optuna.trial import TrialState

import study
from fer.errors import UserError
from fer.syntax import statement_hashes
from study.options import DEFAULT_URL
from study.pipeline import Settings, load_pipeline
from study.spec.code import _other_names, _used, code_of
from study.storage import records
from tests.blobs import Blobs
from tests.conftest import Command, process

ROOT = Path(__file__).parents[1]
DIGITS = ("--pipeline", "examples.digits:pipeline")

FIVE_LINES = """
import study
from examples.digits import pipeline
search = study.search(pipeline, trials=2, storage="sqlite:///digits.db", epochs=2, workers=1)
print(search.best_trial.params, search.trials_dataframe().head())
"""

WIDTH = r"\{'lr': .*'width'"
"""What the digits' parameters look like."""


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example is no part of the installed packages."""
    monkeypatch.syspath_prepend(str(ROOT))


def test_the_digits_go_through_search_report_export_replay_and_confirmation(
    command: Command,
) -> None:
    done = command("study.run", *DIGITS, "--trials", 4, "--epochs", 3, "--workers", 1)
    assert done.code == 0, done
    assert "plan   4 trials x 3 epochs of 1347 training and 450 validation images" in done.out
    (name,) = optuna.get_all_study_names(DEFAULT_URL)
    assert name.startswith("digits-")
    found = optuna.load_study(study_name=name, storage=DEFAULT_URL)
    assert found.trials[0].user_attrs[records.ORIGIN] == "first guess"
    assert found.best_value > 0.5  # ten classes
    right = base64.b64decode(records.kept(found.trials[0], records.RESULT)["right"])
    bits = np.unpackbits(np.frombuffer(right, np.uint8), count=450)
    assert bits.mean() == pytest.approx(found.trials[0].intermediate_values[3])
    assert f"python -m study.export --study {name}" in done.out
    assert "fer.train" not in done.out

    assert command("study.report", "--out", "page.html").code == 0
    page = Path("page.html").read_text()
    assert "--pipeline examples.digits:pipeline" in page
    assert "batch_size" in page
    assert command("study.results", "--out", "results").code == 0

    assert command("study.export", "--out", "best.yaml").code == 0
    best = yaml.safe_load(Path("best.yaml").read_text())
    assert best["config"] == records.kept(found.best_trial, records.CONFIG)
    assert best["config"]["activation"] in ("relu", "tanh")
    assert best["provenance"]["validation_accuracy"] == found.best_value

    replayed = command("study.replay", *DIGITS, "--trial", 2)
    assert replayed.code == 0, replayed
    assert "identical: every score to the last bit, and loss" in replayed.out
    unnamed = command("study.replay", "--trial", 2)
    assert unnamed.code == 2
    assert "--pipeline" in unnamed.err

    confirmed = command("study.confirm", *DIGITS, "--top", 1, "--seeds", 2, "--workers", 1)
    assert confirmed.code == 0, confirmed
    assert "first guess" in confirmed.out
    again = command("study.results", "--out", "results")
    assert again.code == 0, again
    assert "first guess" in Path("results/results.md").read_text().split("## Best of")[1]
    both = command("study.confirm", *DIGITS, "--data", "faces.csv")
    assert both.code == 2
    assert "--data applies to FER-2013 only" in both.err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--pipeline", "digits"), "module:object, got 'digits'"),
        (("--pipeline", "./examples/digits.py:pipeline"), "module:object, got './examples"),
        ((*DIGITS, "--seed", "5000000000"), "--seed 5000000000: it should be less than"),
        (("--pipeline", "no.such:thing"), "no module 'no.such'"),
        (("--pipeline", "examples.digits:nothing"), "examples.digits has no 'nothing'"),
        (("--pipeline", "examples.digits:SPLIT"), "the pipeline lacks name, metric"),
        ((*DIGITS, "--subset", "10"), "--subset applies to FER-2013 only"),
        ((*DIGITS, "--split-seed", "7"), "--split-seed applies to FER-2013 only"),
        ((*DIGITS, "--space", "report"), "--space applies to FER-2013 only"),
        ((*DIGITS, "--remove", "sad"), "--remove applies to FER-2013 only"),
    ],
)
def test_what_is_no_pipeline_is_refused_in_a_line(
    arguments: tuple[str, ...], named: str, command: Command
) -> None:
    done = command("study.run", *arguments)
    assert done.code == 2, done
    assert named in done.err.splitlines()[-1]
    assert not list(Path().iterdir())


def test_a_pipeline_whose_own_imports_fail_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("broken.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        load_pipeline("broken:pipeline")


def ran(code: int, out: str, err: str, parameters: str = WIDTH) -> None:
    assert code == 0, (out, err)
    assert re.search(parameters, out), out
    assert "trials complete" in out
    assert Path("digits.db").exists()
    assert not Path("digits.db.checkpoints").exists()


@pytest.mark.parametrize(
    ("how", "module", "parameters"),
    [
        ("a script", "tests.blobs", r"\{'rule': "),
        ("standard input", "tests.blobs", r"\{'rule': "),
        pytest.param("a script", "examples.digits", WIDTH, marks=pytest.mark.long),
    ],
)
def test_five_lines_of_python_search_without_a_main_guard(
    how: str, module: str, parameters: str
) -> None:
    source = FIVE_LINES.replace("examples.digits", module)
    Path("five.py").write_text(source)
    line = [sys.executable, "five.py" if how == "a script" else "-"]
    text = None if how == "a script" else source
    done = subprocess.run(line, input=text, capture_output=True, text=True, timeout=120)
    ran(done.returncode, done.stdout, done.stderr, parameters)


def test_a_pipeline_may_be_written_in_the_script_that_runs() -> None:
    source = (ROOT / "tests" / "blobs.py").read_text()
    call = 'found = __import__("study").search(pipeline, trials=5, workers=2)\n'
    Path("mine.py").write_text(f"{source}\n{call}print(len(found.trials), found.best_value)\n")
    done = subprocess.run(
        [sys.executable, "mine.py"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done
    assert done.stdout.splitlines()[-1].startswith("5 0.")


def outputs_of(source: str, folder: Path) -> str:
    """What a notebook with one cell prints."""
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "outputs": [], "source": source}
    content = {"cells": [{**cell, "execution_count": None}], "metadata": {}, "nbformat": 4}
    notebook = nbformat.from_dict({**content, "nbformat_minor": 5})  # type: ignore[no-untyped-call]
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute(cwd=str(folder))
    outputs = notebook.cells[0].outputs
    return "".join(
        each.get("text") or each.get("data", {}).get("text/plain", "") for each in outputs
    )


@pytest.mark.long
def test_five_lines_search_in_a_notebook(own_folder: Path) -> None:
    source = FIVE_LINES.replace("examples.digits", "tests.blobs")
    ran(0, outputs_of(source, own_folder), "", r"\{'rule': ")


INTERRUPTED = """
import contextlib, os, pathlib, signal, threading, psutil, study
from tests.blobs import Blobs

def interrupt():
    while not seen:
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # git, which has ended meanwhile
                if "study.workers.worker" in " ".join(child.cmdline()):
                    seen.append(child.pid)
    os.kill(os.getpid(), signal.SIGINT)

seen = []
threading.Thread(target=interrupt).start()
try:
    study.search(Blobs(epochs=100_000), trials=2, storage="sqlite:///blobs.db", workers=1)
except KeyboardInterrupt:
    gone, alive = psutil.wait_procs([psutil.Process(p) for p in seen if psutil.pid_exists(p)], 10)
    print("interrupted", len(seen), "left", len(alive))
"""


@pytest.mark.parametrize("where", ["a script", "a notebook"])
def test_ctrl_c_leaves_no_workers_behind_and_loses_nothing(where: str, own_folder: Path) -> None:
    if where == "a script":
        done = subprocess.run(
            [sys.executable, "-"], input=INTERRUPTED, capture_output=True, text=True, timeout=120
        )
        out = done.stdout + done.stderr
    else:
        out = outputs_of(INTERRUPTED, own_folder)
    assert "interrupted 1 left 0" in out, out
    (name,) = optuna.get_all_study_names("sqlite:///blobs.db")
    states = {
        trial.state
        for trial in optuna.load_study(study_name=name, storage="sqlite:///blobs.db").trials
    }
    assert TrialState.RUNNING not in states


def test_workers_end_when_their_parent_is_killed() -> None:
    code = INTERRUPTED.replace("signal.SIGINT", "signal.SIGKILL").replace(
        # Not printed: lines of two threads mix.
        "    os.kill(",
        "    pathlib.Path('workers').write_text(' '.join(map(str, seen)))\n    os.kill(",
    )
    done = subprocess.run(
        [sys.executable, "-"], input=code, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == -signal.SIGKILL
    workers = [int(word) for word in Path("workers").read_text().split()]
    assert workers
    running = [psutil.Process(pid) for pid in workers if psutil.pid_exists(pid)]
    assert not psutil.wait_procs(running, timeout=10)[1]


def test_a_search_from_python_is_continued_and_refuses_what_the_command_refuses() -> None:
    first = study.search(Blobs(), trials=3, workers=1)
    three = first.trials
    more = study.search(Blobs(), trials=5, workers=1)
    assert [len(three), len(more.trials)] == [3, 5]
    assert more.study_name == first.study_name
    assert more.trials[:3] == three
    with pytest.raises(UserError, match="trials = 0"):
        study.search(Blobs(), trials=0)
    with pytest.raises(UserError, match="unknown"):
        study.search(Blobs(), sampeler="tpe")
    with pytest.raises(UserError, match="epochs was 4, now 5"):
        study.search(Blobs(), trials=6, study=first.study_name, epochs=5)
    with pytest.raises(UserError, match="the pipeline lacks"):
        study.search(object())  # type: ignore[arg-type]


def test_another_version_of_a_pipelines_code_is_another_study(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(Path.cwd()))
    source = (ROOT / "tests" / "blobs.py").read_text()
    Path("mine_before.py").write_text(source)
    Path("mine_after.py").write_text(source.replace("+ 0.3", "+ 0.4"))
    before, after = (load_pipeline(f"mine_{each}:pipeline") for each in ("before", "after"))
    name = study.search(before, trials=1, workers=1).study_name
    with pytest.raises(UserError, match=r"code was .*, now"):
        study.search(after, trials=2, workers=1, study=name)


SCRIPT = """
from math import sin as op, floor
WIDTH = 3
CONFIG = {"lr": [0.1]}
CONFIG["more"] = 1

def helper(x, lr=0.1):
    return x + op(lr)

def unused(x):
    return 2 * x

class Session:
    def train(self):
        "Say nothing."
        return [helper(WIDTH) for word in ("a", "b") if word in {"a", "c"}], CONFIG

class Mine:
    @property
    def about(self):
        return "points"

    def open(self, device):
        return Session()

trials = 4
print(Mine(), trials)
from study.spec.code import _other_names, _used, code_of
print(code_of(Mine())["code"])
"""


def version_of(source: str) -> str:
    """The code version that a script prints, whatever the seed of its hashes."""
    Path("script.py").write_text(source)
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True)
    assert done.returncode == 0, done
    return done.stdout.split()[-1]


def test_the_code_of_a_script_is_what_its_pipeline_uses() -> None:
    first = version_of(SCRIPT)
    assert version_of(SCRIPT) == first
    for old, new in (
        ("trials = 4", "trials = 6"),
        ("2 * x", "3 * x"),
        ('"Say nothing."', '"Say so."'),
        ("class Mine", "# what a study trains\nclass Mine"),
    ):
        assert version_of(SCRIPT.replace(old, new, 1)) == first, new


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x + op", "x - op"),
        ("WIDTH = 3", "WIDTH = 4"),
        ("lr=0.1", "lr=0.2"),
        ("[0.1]", "[0.2]"),
        ('["more"] = 1', '["more"] = 2'),
        ("sin as op", "cos as op"),
        ('"points"', '"dots"'),
        ('{"a", "c"}', '{"a", "b"}'),
        ('("a", "b")', '("b", "a")'),
    ],
)
def test_whatever_a_scripts_pipeline_uses_is_part_of_its_code(old: str, new: str) -> None:
    def used(source: str) -> list[str]:
        statements = _used(ast.parse(source).body, "Mine")
        return [*statement_hashes(statements), *_other_names(statements)]

    assert used(SCRIPT) != used(SCRIPT.replace(old, new, 1))


def test_a_cell_that_runs_again_counts_as_it_was_last() -> None:
    again = SCRIPT.replace("x + op", "x - op") + SCRIPT
    once, twice = (_used(ast.parse(source).body, "helper") for source in (SCRIPT, again))
    assert set(statement_hashes(once)) == set(statement_hashes(twice))


def test_the_code_of_a_pipeline_is_that_of_the_modules_beside_it_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(Path.cwd()))
    package = Path("mine")
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "net.py").write_text("def net():\n    return 1\n")
    (package / "other.py").write_text("def other():\n    return 1\n")
    (package / "pipeline.py").write_text(
        "import numpy\nfrom study.pipeline import Cost\nfrom .net import net\n"
        "class Mine:\n    pass\n"
    )
    mine = importlib.import_module("mine.pipeline").Mine()
    first = code_of(mine)
    (package / "other.py").write_text("def other():\n    return 2\n")
    assert code_of(mine) == first
    (package / "net.py").write_text("def net():\n    return 2\n")
    assert code_of(mine) != first


def test_a_preset_with_an_unknown_setting_is_refused_by_name() -> None:
    class Wrong(Blobs):
        presets: ClassVar[dict[str, Settings]] = {"mine": {"rl": 0.1}}

    with pytest.raises(UserError, match="preset 'mine' names rl, which neither"):
        study.search(Wrong(), trials=1, workers=1)
    assert not list(Path().iterdir())


def test_the_command_and_python_work_on_one_study() -> None:
    line = ("--pipeline", "tests.blobs:pipeline", "--workers", 1, "--trials")
    first = process("study.run", *line, 2)
    assert first.code == 0, first
    found = study.search(load_pipeline("tests.blobs:pipeline"), trials=3, workers=1)
    assert optuna.get_all_study_names(DEFAULT_URL) == [found.study_name]
    assert len(found.trials) == 3


def test_a_pipeline_that_cannot_be_imported_is_refused_without_a_word_from_workers() -> None:
    done = process("study.run", "--pipeline", "./examples/digits.py:pipeline")
    assert done.code == 2
    assert done.err == (
        "error: --pipeline must be module:object, got './examples/digits.py:pipeline'\n"
    )
