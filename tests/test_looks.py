"""Looks at a test split are counted across all runs, and nothing done to a run resets them."""

import json
import multiprocessing
import re
import shutil
from pathlib import Path

import pytest

from fer import looks
from fer.errors import UserError

SCORES = {"accuracy": 0.5}


@pytest.fixture(autouse=True)
def ledger(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The ledger, in a cache folder of this test alone."""
    monkeypatch.setenv("FER_CACHE", str(own_folder / "cache"))
    return own_folder / "cache" / looks.LOOKS


def run(name: str) -> Path:
    folder = Path(name)
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(name.encode())
    return folder


def test_looks_are_counted_by_split_and_data_over_all_runs() -> None:
    one, other = run("one"), run("other")
    assert looks.take(one, "PrivateTest", "a" * 64, SCORES) == (1, 1)
    assert looks.take(one, "PrivateTest", "a" * 64, SCORES) == (2, 2)
    assert looks.take(other, "PrivateTest", "a" * 64, SCORES) == (3, 1)
    assert looks.take(other, "PublicTest", "a" * 64, SCORES) == (1, 1)
    assert looks.take(run("third"), "PrivateTest", "b" * 64, SCORES) == (1, 1)


def test_a_deleted_run_does_not_reset_the_count(ledger: Path) -> None:
    for number in (1, 2, 3):
        assert looks.take(run("mine"), "PrivateTest", "a" * 64, SCORES) == (number, 1)
        shutil.rmtree("mine")
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert {line["run"] for line in lines} == {str(Path("mine").resolve())}
    assert len({line["weights_sha256"] for line in lines}) == 1
    assert [line["accuracy"] for line in lines] == [0.5] * 3


def test_a_run_brings_its_looks_from_another_machine(ledger: Path) -> None:
    folder = run("mine")
    looks.take(folder, "PrivateTest", "a" * 64, SCORES)
    ledger.unlink()
    assert looks.take(folder, "PrivateTest", "a" * 64, SCORES) == (2, 2)


def test_what_a_full_disk_cut_off_is_no_look_and_damages_none(ledger: Path) -> None:
    looks.take(run("one"), "PrivateTest", "a" * 64, SCORES)
    with ledger.open("ab") as file:
        file.write(b'{"split": "Priv')
    assert looks.take(run("two"), "PrivateTest", "a" * 64, SCORES) == (2, 1)
    assert looks.take(run("three"), "PrivateTest", "a" * 64, SCORES) == (3, 1)


def test_without_a_ledger_the_looks_of_the_run_still_count(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run("mine")
    Path("file").touch()
    monkeypatch.setenv("FER_CACHE", "file/cache")
    for number in (1, 2):
        assert looks.take(folder, "PrivateTest", "a" * 64, SCORES) == (number, number)
        (note,) = capsys.readouterr().out.splitlines()
        assert re.match("note: looks by other runs are not counted: file/cache/looks.jsonl", note)


def look_often(name: str) -> list[int]:
    taken = [looks.take(Path(name), "PrivateTest", "a" * 64, SCORES) for _ in range(50)]
    assert [own for _, own in taken] == list(range(1, 51))
    return [number for number, _ in taken]


def test_processes_that_look_at_once_lose_no_line_and_share_no_number(ledger: Path) -> None:
    names = [run(name).name for name in "abcd"]
    ledger.parent.mkdir()
    ledger.write_text('{"split": "PublicTest"}\n' * 500)
    with multiprocessing.get_context("fork").Pool(4) as pool:
        numbers = [number for taken in pool.map(look_often, names, 1) for number in taken]
    assert sorted(numbers) == list(range(1, 201))
    assert len(ledger.read_text().splitlines()) == 700


def test_a_run_that_cannot_be_written_to_takes_no_look(ledger: Path) -> None:
    folder = run("mine")
    (folder / looks.LOOKS).mkdir()
    with pytest.raises(UserError, match=r"cannot write mine/looks\.jsonl"):
        looks.take(folder, "PrivateTest", "a" * 64, SCORES)
    assert not ledger.exists()
