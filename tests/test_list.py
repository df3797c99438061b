"""study.list has a line for every study of a database, whichever program created it."""

import json
from pathlib import Path

import optuna
import pytest

from study.analysis.listing import Listed, in_lines
from study.options import DEFAULT_URL
from study.spec.identity import IDENTITY
from tests import foreign
from tests.conftest import Command
from tests.scripted import Run

BLOBS = ("--pipeline", "tests.blobs:pipeline", "--workers", 1)


def listed(command: Command) -> dict[str, dict[str, object]]:
    done = command("study.list", "--json")
    assert done.code == 0, done
    return {row["study"]: row for row in json.loads(done.out)}


def test_a_study_is_listed_with_its_trials_its_best_and_a_verdict(command: Command) -> None:
    search = ("study.run", *BLOBS, "--trials", 4, "--study", "search", "--pruner", "none")
    assert command(*search).code == 0
    before = listed(command)["search"]
    assert (before["kind"], before["complete"], before["total"]) == ("search", 4, 4)
    assert str(before["verdict"]).endswith("not confirmed")
    trials = optuna.load_study(study_name="search", storage=DEFAULT_URL).trials
    assert before["best"] == max(trial.value or 0.0 for trial in trials)
    confirm = ("study.confirm", *BLOBS, "--top", 1, "--seeds", 2)
    assert command(*confirm).code == 0
    done = command("study.list")
    assert done.code == 0
    head, first, *rest = done.out.splitlines()
    names = ["study", "kind", "complete", "stopped", "running", "total", "best", "age"]
    assert head.split() == names
    assert first.split()[1:6] == ["confirm", "4", "0", "0", "4"]  # worked on last, so it is first
    assert any(line.split()[:2] == ["search", "search"] for line in rest)
    again = listed(command)["search"]["verdict"]
    assert again != before["verdict"]
    assert f"  {again}" in rest


def test_studies_and_trials_of_other_programs_are_listed(run: Run, command: Command) -> None:
    run(trials=2)
    foreign.put_in(optuna.load_study(study_name="small", storage=DEFAULT_URL))
    optuna.create_study(storage=DEFAULT_URL, study_name="empty")
    two = optuna.create_study(
        storage=DEFAULT_URL, study_name="two", directions=["minimize", "maximize"]
    )
    two.tell(two.ask(), [1.0, 2.0])
    least = optuna.create_study(storage=DEFAULT_URL, study_name="least\x1b[31m")
    for value in (3.0, 1e-9, 2e6):
        least.tell(least.ask(), value)
    for name, identity in (("odd", 3), ("partly", {"seed": 1})):
        optuna.create_study(storage=DEFAULT_URL, study_name=name).set_user_attr(IDENTITY, identity)
    newer = optuna.create_study(storage=DEFAULT_URL, study_name="newer")
    newer.set_user_attr(IDENTITY, {"format": 99, "kind": "dream", "space_definition": {}})
    rows = listed(command)
    kinds = {name: row["kind"] for name, row in rows.items()}
    assert kinds.pop("small") == "search"
    assert set(kinds.values()) == {"foreign"}
    assert [rows[name]["best"] for name in ("empty", "two", "least\x1b[31m")] == [None, None, 1e-9]
    assert "newer version" in str(rows["newer"]["verdict"])
    done = command("study.list")
    assert done.code == 0
    assert "\x1b" not in done.out


def test_a_table_fits_the_terminal_and_no_name_is_cut() -> None:
    long = "fer2013-without-surprise-and-all-else-a7fb48"
    verdict = "beats hand-tuned: +3.10 [+1.20, +5.00], 6 fresh seeds, and this goes on for longer"
    rows = [
        Listed("fer2013-3fa2c1", "search", 12, 18, 1, 100, 0.61234, verdict, 1.0),
        Listed(long, "emotions", 3, 0, 0, 3, 12345.6, "", 90_000.0),
        Listed("plain", "foreign", 0, 0, 0, None, None, "", 0.0),
    ]
    lines = in_lines(rows, 100_001.0, 80)
    assert max(map(len, lines)) <= 80
    assert long in lines
    assert "".join(lines).count("fresh seeds") == 1
    (row,) = [line for line in lines if line.startswith("fer2013-3fa2c1 ")]
    assert row.split()[1:] == ["search", "12", "18", "1", "100", "0.6123", "1", "d"]
    assert lines[-1].split() == ["plain", "foreign", "0", "0", "0", "-", "-", "-"]


@pytest.mark.parametrize("made", ["nothing", "no study", "no database", "an empty file"])
def test_where_there_is_no_study_one_line_says_so(made: str, command: Command) -> None:
    if made == "no study":
        optuna.storages.RDBStorage(DEFAULT_URL).engine.dispose()
    elif made != "nothing":
        Path("studies.db").write_text("not one" * 100 if made == "no database" else "")
    done = command("study.list")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
