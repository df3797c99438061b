"""A study's code version depends on what the code computes, not on how it is written."""

import shutil
from pathlib import Path

import pytest
import torch

import fer
from fer import provenance
from fer.network import kernels
from fer.syntax import syntax_hash

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
BEFORE = '''"""A module."""

from fer import metrics

RATE = 0.5  # of something


class Draws:
    order: int
    kept: bool = True


def score(net, images, *, views=2):
    """Score images."""
    total = 0
    for image in images:
        if image is None:
            raise ValueError(f"image {image} is missing")
        total += net(image) * RATE
    return metrics.accuracy(total), total / views
'''


def version(folder: Path, *sources: str) -> str:
    package = folder / "fer"
    package.mkdir(parents=True, exist_ok=True)
    (package / "metrics.py").write_text("")
    files = []
    for number, source in enumerate(sources):
        files.append(package / f"module{number}.py")
        files[-1].write_text(source)
    return syntax_hash(files, {file.stem for file in package.glob("*.py")})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# of something", "# of something else"),
        ('"""A module."""', '"""Another sentence."""'),
        ('    """Score images."""\n', ""),
        (
            "def score(net, images, *, views=2):",
            "def score(net: object, images, *, views=2) -> int:",
        ),
        ("    total = 0\n", "    total: int = 0\n"),
        ("    total = 0\n", "    other: int\n    total = 0\n"),
        ("image {image} is missing", "no image: {image}"),
        ("    for image", "\n\n    for  image"),
        ("from fer import metrics\n", "import os\nfrom fer import metrics\n"),
        ("metrics.accuracy(total)", "accuracy(total)"),
        ("order: int", 'order: "int"'),
    ],
)
def test_how_code_is_written_does_not_count(old: str, new: str, tmp_path: Path) -> None:
    assert old in BEFORE
    changed = version(tmp_path / "new", BEFORE.replace(old, new))
    assert changed == version(tmp_path / "old", BEFORE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("RATE = 0.5", "RATE = 0.6"),
        ("total += ", "total -= "),
        ("views=2", "views=3"),
        ("views=2", "views"),
        ("total / views", "views / total"),
        ("metrics.accuracy", "metrics.recall"),
        ("    total = 0\n", ""),
        ("ValueError", "TypeError"),
        ("image is None", "image is not None"),
        ("order: int\n", ""),
        ("kept: bool = True", "kept: bool = False"),
        ("net(image)", "net(image, image)"),
    ],
)
def test_what_it_computes_does(old: str, new: str, tmp_path: Path) -> None:
    assert old in BEFORE
    changed = version(tmp_path / "new", BEFORE.replace(old, new))
    assert changed != version(tmp_path / "old", BEFORE)


def test_a_statement_may_move_to_another_file(tmp_path: Path) -> None:
    head, _, tail = BEFORE.partition("class Draws")
    moved = version(tmp_path / "new", f"class Draws{tail}", head)
    assert moved == version(tmp_path / "old", BEFORE)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `fer` whose version is asked for."""
    copy = tmp_path / "fer"
    shutil.copytree(Path(fer.__file__).parent, copy)
    monkeypatch.setattr(provenance, "__file__", str(copy / "provenance.py"))
    return copy


def test_the_version_is_that_of_the_code_that_trains(package: Path) -> None:
    before = provenance.code_version(CPU)
    (package / "pages" / "plots.py").write_text("")
    (package / "config.py").write_text("")  # settings are stored with every trial
    assert provenance.code_version(CPU) == before
    (package / "training" / "fit.py").write_text("")
    assert provenance.code_version(CPU) != before


def test_code_that_computes_on_a_processor_what_older_code_did_keeps_its_name(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "SAME", {})
    before = [provenance.code_version(device) for device in (CPU, CUDA)]
    monkeypatch.setattr(provenance, "SAME", {before[0]: "of older code"})
    assert [provenance.code_version(device) for device in (CPU, CUDA)] == [
        "of older code",
        before[1],
    ]


def test_each_device_has_a_version_of_its_own_kernels(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [provenance.code_version(device) for device in (CPU, CUDA)]
    (package / "network" / "gpu_kernels.py").write_text("")
    after = [provenance.code_version(device) for device in (CPU, CUDA)]
    assert after[0] == before[0]
    assert after[1] != before[1]
    if kernels.load().library is None:
        pytest.skip(kernels.load().description)
    source = kernels.SOURCE.read_text()
    names = []
    for text in (source, f"// A comment.\n\n{source}", source.replace("0.5f", "0.25f") + "int x;"):
        (package / "network" / "kernels.cpp").write_text(text)
        monkeypatch.setattr(kernels, "SOURCE", package / "network" / "kernels.cpp")
        kernels.load.cache_clear()
        names.append(kernels.load().name)
        assert [provenance.code_version(device) for device in (CPU, CUDA)] == after
    monkeypatch.undo()
    kernels.load.cache_clear()
    assert names[0] == names[1] != names[2]
