"""Printed commands can be pasted: they survive the shell and the argument parser."""

import os
import subprocess
from pathlib import Path

from fer.command import given, operand, quoted
from study.analysis.commands import option_in
from study.analysis.tables import code
from study.options import command_line
from tests.conftest import Command, process

WORDS = ("a b", "it's", '"', "$HOME", "`id`", "a;b", "*", "a&b?c", "\\n", "é", "a\nb\t\x1b", "")
URL = "postgresql+psycopg://me:secret@host/db?application_name=a b&sslmode=require"


def words(line: str) -> list[str]:
    """The words that bash makes of a line."""
    done = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True
    )
    return [os.fsdecode(word) for word in done.stdout.split(b"\0")[:-1]]


def test_a_shell_reads_the_words_that_were_quoted() -> None:
    assert words(quoted(*WORDS, "\udcff")) == [*WORDS, "\udcff"]
    assert quoted(*WORDS).isprintable()


def test_a_value_or_path_that_begins_with_a_dash_is_no_option() -> None:
    assert words(given("study", "-x y")) == ["--study=-x y"]
    assert words(given("remove", "fear", "sad")) == ["--remove", "fear", "sad"]
    assert words(operand(Path("-runs/a b"))) == ["./-runs/a b"]


def test_the_command_kept_with_a_study_has_its_words_and_options() -> None:
    line = command_line(
        "study.run", ["--storage", URL, "--data=a b.csv", "--study", "x'y"], "hidden"
    )
    assert words(line)[3:] == ["--storage", "hidden", "--data=a b.csv", "--study", "x'y"]
    found = [option_in(line, name) for name in ("data", "study", "pipeline")]
    assert found == ["a b.csv", "x'y", None]


def test_backticks_end_no_code_of_markdown() -> None:
    assert code("a") == "`a`"
    assert code("a `b` ``c") == "``` a `b` ``c ```"


def test_what_a_study_with_a_strange_name_prints_works_when_pasted(command: Command) -> None:
    name = "-my [bold] :smile: $tudy"
    blobs = ("--pipeline", "tests.blobs:pipeline", "--workers", 1)
    done = command("study.run", f"--study={name}", "--trials", 3, *blobs)
    assert done.code == 0, done
    lines = [line.strip() for line in done.out.splitlines() if "python -m" in line]
    confirm, report, export = lines
    assert words(confirm)[3] == f"--study={name}"
    for line in (report, export):
        python, _, module, *rest = words(line)
        assert python == "python"
        assert command(module, *rest).code == 0, line
    assert command("study.results").code == 0
    page = Path("results/results.md").read_text()
    assert "--pipeline tests.blobs:pipeline" in page
    assert quoted(f"--study={name}") in page


def test_fer_train_prints_the_next_command_to_be_pasted() -> None:
    line = ("--subset", 150, "--epochs", 1, "--threads", 1, "--no-onnx", "--out=-my run's")
    done = process("fer.train", *line)
    assert done.code == 0, done
    (after,) = [line for line in done.out.splitlines() if line.startswith("next")]
    assert words(after)[1:] == ["python", "-m", "fer.evaluate", "./-my run's"]
