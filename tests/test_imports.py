"""Which modules may import which, and what is loaded lazily."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STUDY_COMMANDS = (
    *("study.run", "study.compare", "study.confirm", "study.emotions", "study.report"),
    *("study.results", "study.replay", "study.export", "study.copy.__main__", "study.judge"),
    *("study.list", "study.delete"),
)
FER_COMMANDS = ("fer.train", "fer.evaluate", "fer.predict", "fer.explore", "fer.export_onnx")
# What a room of `study` may import of the others. Every module may use the words below.
ROOMS = {
    "study.dashboard": {
        *("study.page", "study.analysis", "study.storage", "study.spec", "study.options"),
    },
    "study.page": {"study.analysis", "study.storage", "study.spec", "study.options"},
    "study.analysis": {"study.storage", "study.spec", "study.options"},
    "study.judging": {
        *("study.analysis.tables", "study.engine", "study.storage", "study.spec"),
    },
    "study.engine": {"study.workers", "study.storage", "study.spec", "study.options"},
    "study.workers": {"study.spec"},
    "study.storage": {"study.spec.identity", "study.options"},
    "study.spec": {"study.options"},
    "study.options": set(),
    "study.pipeline": set(),
    "study.words": set(),
}
EVERYWHERE = {"study.pipeline", "study.words"}
PLUMBING = {"fer.errors", "fer.command", "fer.commands", "fer.files", "fer.machine", "fer.syntax"}
PLUMBING |= {"fer.strict_json", "fer.signals", "fer.output", "fer.home"}
OF_THE_REPORT = "study.spec.report"
OF_THE_SPACES = "study.spec.spaces"
OF_THE_PIPELINE = ("study.spec.faces", "study.spec.own_space")


def modules(package: str) -> Iterator[tuple[str, ast.Module]]:
    for file in sorted((ROOT / package).rglob("*.py")):
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        yield name, ast.parse(file.read_bytes())


MODULES = {name: tree for package in ("study", "fer") for name, tree in modules(package)}


def imports(tree: ast.Module) -> set[str]:
    """The modules of ours that a module imports, wherever in it; those for types alone too."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (below & MODULES.keys()) or {node.module}
    return {name for name in found if name.split(".")[0] in ("study", "fer")}


IMPORTS = {name: imports(tree) for name, tree in MODULES.items()}


def within(name: str, places: set[str]) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in places)


def test_fer_imports_nothing_of_study() -> None:
    for name, found in IMPORTS.items():
        if name.startswith("fer"):
            assert not {each for each in found if each.startswith("study")}, name


def test_study_imports_fer_in_the_files_of_the_report_and_of_the_default_pipeline_alone() -> None:
    for name, found in IMPORTS.items():
        if name.startswith("study") and name not in (OF_THE_REPORT, *OF_THE_PIPELINE):
            assert not {each for each in found if each.startswith("fer")} - PLUMBING, name


def test_a_room_imports_only_from_the_rooms_below_it() -> None:
    for name, found in IMPORTS.items():
        for room, others in ROOMS.items():
            if within(name, {room}):
                allowed = {room, *others, *EVERYWHERE}
                strange = {each for each in found if each.startswith("study")} - {"study"}
                assert not {each for each in strange if not within(each, allowed)}, name


def test_no_command_imports_another() -> None:
    commands = {*STUDY_COMMANDS, *FER_COMMANDS}
    for name, found in IMPORTS.items():
        assert not found & commands - {name}, name


def test_no_module_imports_itself_in_a_circle() -> None:
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path, name))
        if name not in done:
            for each in IMPORTS.get(name, set()):
                visit(each, (*path, name))
            done.add(name)

    for name in IMPORTS:
        visit(name, ())


FACES = {"angry", "disgust", "fear", "surprise", "adam", "sgd", "adamax", "rmsprop", "adagrad"}
FACES |= {"fc_width", "pool1", "conv_activation", "output_activation", "emotion", "pixels"}


def test_study_names_no_emotion_optimizer_or_layer_outside_the_report_and_its_spaces() -> None:
    for name, tree in MODULES.items():
        if not name.startswith("study") or name in (OF_THE_REPORT, OF_THE_SPACES):
            continue
        texts = {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert not (texts | names) & FACES, name


def loaded(code: str) -> set[str]:
    script = f"{code}\nimport sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_fer_never_loads_optuna_or_study() -> None:
    every = ", ".join(name for name in MODULES if name.startswith("fer") and "gpu" not in name)
    assert not {"optuna", "study"} & loaded(f"import {every}")


def test_a_command_is_read_before_pytorch_is_loaded() -> None:
    modules = loaded(
        f"import {', '.join((*STUDY_COMMANDS, *FER_COMMANDS))}, bench.__main__, study"
    )
    assert not {"torch", "optuna", "pandas", "sklearn", "sqlalchemy"} & modules


def test_a_study_without_a_cluster_does_not_load_ray() -> None:
    modules = loaded("import study.run, study.engine.conduct, study.workers.worker")
    assert "ray" not in modules


def test_the_loop_and_its_workers_run_without_pytorch() -> None:
    modules = loaded("import study.engine.conduct, study.workers.worker, study.analysis.summary")
    assert not {"torch", "sklearn"} & modules


def test_what_only_the_end_of_a_study_needs_does_not_delay_its_start() -> None:
    modules = loaded("import study.engine.conduct, study.dashboard.show, study.analysis.answer")
    assert not {"torch", "sklearn", "scipy.stats", "matplotlib", "pandas"} & modules


@pytest.mark.parametrize("module", ["study.run", "study.export", "fer.train", "bench"])
def test_help_tells_every_option_in_a_line(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "80"},
    )
    assert f"usage: python -m {module}" in done.stdout
    assert done.stderr == ""
    if module == "study.run":  # what a missing value means stands in the text
        assert not re.search(r"default:\W+none", done.stdout)
    lines = [line[2:-2] for line in done.stdout.splitlines() if line.startswith("│")]
    start = lines[0].index("show this help")
    width = len(lines[0]) - start
    for line, following in pairwise(lines):
        beside, text, more = line[:start], line[start:].rstrip(), following[start:].split()
        goes_on = beside.endswith(" ") and text and more and not following[:start].strip()
        if goes_on:  # in another line, as the next word did not fit
            assert len(f"{text} {more[0]}") > width, (line, following)


COMMANDS = [
    file
    for package in ("study", "fer", "bench")
    for file in (ROOT / package).rglob("*.py")
    if "command.run(main" in file.read_text()
]


def test_no_module_beside_a_command_hides_one_of_python() -> None:
    """A command that is started by its path looks for modules in its own folder first."""
    for folder in {file.parent for file in COMMANDS}:
        # A folder without __init__.py comes after Python's own.
        found = {each.stem for each in folder.glob("*.py")}
        found |= {each.parent.name for each in folder.glob("*/__init__.py")}
        assert not found & sys.stdlib_module_names, folder


# One of each folder, as that is what the search for modules depends on.
ONE_EACH = {file.parent: file for file in sorted(COMMANDS)}.values()


@pytest.mark.parametrize("file", ONE_EACH, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_command_may_be_started_by_its_path(file: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(file), "--help"], capture_output=True, text=True, check=True
    )
    assert "\nusage: python -m " in done.stdout
    assert done.stderr == ""
