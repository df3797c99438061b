"""What is loaded when: `fer` needs no Optuna, and help and mistakes do not wait for PyTorch."""

import subprocess
import sys

import pytest

COMMANDS = (
    "study.run",
    "study.report",
    "study.export",
    "fer.train",
    "fer.evaluate",
    "fer.predict",
    "bench",
)


def loaded(code: str) -> set[str]:
    script = f"{code}\nimport sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_fer_never_loads_optuna_or_study() -> None:
    modules = loaded(
        "import fer.train, fer.evaluate, fer.predict, fer.training.fit, fer.runs, fer.pages.plots"
    )
    assert not {"optuna", "study"} & modules


def test_a_command_is_read_before_pytorch_is_loaded() -> None:
    modules = loaded("import study.run, study.export, fer.train, fer.evaluate, bench.__main__")
    assert not {"torch", "optuna", "pandas", "sklearn"} & modules


@pytest.mark.parametrize("module", COMMANDS)
def test_help_tells_every_option_in_a_line(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True
    )
    assert f"usage: python -m {module}" in done.stdout
    assert done.stderr == ""
