"""`python -m study` and `python -m fer` list their commands and run them."""

import importlib.util

import pytest

from fer.commands import listed
from tests.conftest import Command


@pytest.mark.parametrize("package", ["study", "fer"])
def test_a_package_lists_its_commands_with_what_they_are_for(
    package: str, command: Command
) -> None:
    done = command(package)
    assert done.code == 0
    assert done.out == command(package, "--help").out
    for name, line in listed(package).items():
        assert f"  {name}" in done.out
        assert line in done.out
        assert importlib.util.find_spec(f"{package}.{name}") is not None
    assert {"run", "confirm", "copy", "list"} <= listed("study").keys()
    assert {"train", "evaluate", "predict", "explore"} <= listed("fer").keys()


def test_a_command_is_run_by_its_name_and_a_mistyped_one_gets_the_nearest(
    command: Command,
) -> None:
    ran = command("study", "list", "--storage", "sqlite:///none.db")
    assert (ran.code, "none.db" in ran.err) == (2, True)
    wrong = command("study", "confrim")
    assert (wrong.code, wrong.out) == (2, "")
    assert wrong.err == "error: study has no command 'confrim'; did you mean confirm?\n"
