"""The page of a study: verdict first, trials of every ending, no external resources."""

import json
import re
import shutil
import sqlite3
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import create_trial

from study.analysis import importance
from study.options import DEFAULT_URL
from study.page.compared import colours_of
from study.page.history import best_so_far, curves, history
from study.page.render import all_trials, asked, render
from study.page.settings import draw, panels
from study.page.style import COLOURS, HAND_MADE
from study.page.trials import trials_of
from study.storage.records import CONFIG, CONTINUES, RESULT, kept, result_of
from tests import foreign
from tests.conftest import ROOT, Command, Table, frame, trials, write_forms
from tests.scripted import Run
from tests.studies import COMMAND_LINE, searched

RESULTS = ROOT / "docs/results/studies.db"
BLOBS = ("--pipeline", "tests.blobs:pipeline", "--workers", 1)


@pytest.fixture(autouse=True)
def quick_importance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer draws than a reader gets, for the tests of everything else; see test_importance."""
    monkeypatch.setattr(importance, "RESAMPLES", 2)


class Page(HTMLParser):
    """What a reader sees of a page, and whether its elements are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.headings: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)
        if self.open[-1:] in (["h1"], ["h2"], ["summary"]):
            self.headings.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


def page_of(study: optuna.Study) -> str:
    return render(study, [study], DEFAULT_URL, {})


@pytest.fixture(scope="module")
def text() -> str:
    """The page on a search whose trials end in every way."""
    return page_of(searched())


def written(command: Command, *options: object) -> Page:
    done = command("study.report", "--out", "page.html", *options)
    assert done.code == 0, done
    return Page(Path("page.html").read_text())


def test_the_verdict_comes_first_and_what_it_all_depends_on_last(text: str) -> None:
    page = Page(text)
    assert page.headings == [
        "Study my <b>study</b>",
        "Next steps",
        "Caveats",
        "Best found and best hand-made settings",
        "History of the search",
        "Learning curves",
        "Which settings mattered",
        "Each setting",
        "Where the best trial goes wrong",
        "All 30 trials, best first",
        "How to reproduce it",
        "Everything these numbers depend on",
    ]
    verdict = page.text.index("Not confirmed yet")
    assert verdict < page.text.index("epochs trained") < page.text.index("Next steps")
    assert page.text.index("python -m study.confirm") < page.text.index("study.export")
    assert COMMAND_LINE in page.text


def test_a_page_loads_nothing_and_runs_nothing(text: str) -> None:
    page = Page(text)
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "base", "form"}
    given = {name for _, attributes in page.tags for name in attributes}
    assert not given & {"src", "href", "action"}
    policy = next(each["content"] for _, each in page.tags if "http-equiv" in each)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert "url(" not in text


def test_what_a_person_named_is_no_markup(text: str) -> None:
    page = Page(text)
    assert "b" not in {tag for tag, each in page.tags if tag == "b" and "class" in each}
    assert "<b>study</b>" in page.text
    assert "a <b>bold</b> one" in page.text
    assert "<b>bold</b>" not in text


def test_a_hundred_trials_of_thirty_epochs_fit_into_a_mail() -> None:
    assert len(page_of(searched(100, 30)).encode()) < 1_000_000


def test_every_trial_of_each_kind_is_drawn(text: str) -> None:
    history = text.split("History of the search")[1].split("Learning curves")[0]
    for number in range(30):
        assert history.count(f"<title>trial {number}:") + history.count(
            f"<title>trial {number}, hand &amp; co:"
        ) == (4 if number == 0 else 2)  # a mark in either figure, and the line of the hand-made
    assert "class='cross bad'" in history
    assert "class='dot grey'" in history
    assert "class='diamond hand'" in history


def test_the_best_so_far_rises_with_complete_trials_alone() -> None:
    drawn = trials_of(searched())
    scores = {row.number: row.score or 0.0 for row in drawn.rows if row.complete}
    rows = [row if row.complete else replace(row, score=0.99) for row in drawn.rows]
    risen = best_so_far([(row.number, row) for row in rows], 31.5)
    assert risen[-1] == (31.5, max(scores.values()))
    for number, score in risen[:-1]:
        assert score == max(each for other, each in scores.items() if other <= number)
    assert [score for _, score in risen[:-1]] == sorted({score for _, score in risen})


def test_the_best_five_curves_are_named_and_the_hand_made_one_is_dashed(text: str) -> None:
    drawn = trials_of(searched())
    part = text.split("Learning curves")[1].split("</figure>")[0]
    named = re.findall(r"<span>trial (\d+) \(", part)
    assert [*map(int, named[:5])] == [row.number for row in drawn.complete[:5]]
    assert named[5:] == ["0"]
    assert part.count("class='line hand dashed strong'") == 1
    lines = [row for row in drawn.rows if row.curve]
    assert part.count("class='line ") == len(lines) == 30
    assert part.count("class='line grey thin'") == sum(not row.complete for row in lines)
    assert ">epoch</text>" in part
    assert ">validation accuracy</text>" in part


def test_learning_rates_of_all_optimizers_share_a_panel_by_colour(text: str) -> None:
    panel = next(each for each in text.split("<figure>") if each.startswith("<h3>lr"))
    key = panel.split("<ul class='key'>")[1]
    assert re.findall(r"<li class='(c\d)'><i>.</i><span>(\w+)</span>", key) == [
        ("c0", "sgd"),
        ("c1", "adam"),
    ]
    assert "class='dot c0'" in panel
    assert "class='dot c1'" in panel
    assert text.count("<h3>lr") == 1
    assert not re.search("<h3>(sgd|adam)_lr", text)


def test_the_axis_of_scores_is_not_squeezed_by_the_bad_ones() -> None:
    study = searched()
    worst = study.trials[0]
    own = {**worst.system_attrs, RESULT: {**kept(worst, RESULT), "score": -1e6}}
    lost = create_trial(
        params=worst.params,
        distributions=worst.distributions,
        value=-1e6,
        intermediate_values={1: -1e6},
        system_attrs=own,
    )
    study.add_trial(lost)
    history = page_of(study).split("History of the search")[1].split("Learning curves")[0]
    ticks = [float(each) for each in re.findall(r">(0\.\d+)</text>", history)]
    assert min(ticks) > 0.1
    assert "-1000000" in history  # at the lower edge, with its score over it


CONFUSION = [[8, 2, 0], [1, 4, 0], [3, 0, 2]]
MISTAKES = [
    {"case": 7, "truth": 0, "said": 1, "sure": 0.71},
    {"case": 3, "truth": 2, "said": 0, "sure": 0.98},
]


def test_the_best_shows_what_it_confuses_and_its_surest_mistakes_first() -> None:
    page = Page(page_of(searched(confusion=CONFUSION, mistakes=MISTAKES)))
    part = page.text.split("Where the best trial goes wrong")[1].split("All 30 trials")[0]
    assert "20 validation cases" in part
    assert "0.667" in part  # precision of the first class: 8 of 12
    assert "[0.49, 0.94]" in part  # its recall, 8 of 10
    assert part.index("98%") < part.index("71%")
    shares = [each["style"] for tag, each in page.tags if tag == "td" and "style" in each]
    assert shares[:3] == ["--share:0.800", "--share:0.200", "--share:0.000"]


@pytest.mark.parametrize("confusion", [[], [[1, 2], [3]]])
def test_a_study_without_a_confusion_matrix_says_so(confusion: Any) -> None:
    page = Page(page_of(searched(confusion=confusion, mistakes=[])))
    part = page.text.split("Where the best trial goes wrong")[1].split("All 30 trials")[0]
    if confusion != [[1]]:
        assert "stored no confusion matri" in part


def test_one_complete_trial_is_enough(run: Run, command: Command) -> None:
    run(trials=1)
    page = written(command)
    assert "Only hand-made settings have completed" in page.text
    assert "Which settings mattered is unknown" in page.text


def test_a_page_among_trials_of_every_kind_counts_those_of_the_study(
    run: Run, command: Command
) -> None:
    run(trials=2, pruner="screen")
    foreign.put_in(optuna.load_study(study_name="small", storage=DEFAULT_URL))
    run(trials=30, pruner="screen")
    page = written(command, "--study", "small")
    own = [trial for trial in trials() if result_of(trial) is not None]
    assert len(own) == 16  # of 30: the others are another program's
    assert "All 16 trials, best first" in page.text
    assert "added by other programs omitted" in page.text
    assert "second chance of trial" in page.text
    assert any(kept(trial, CONTINUES) is not None for trial in own)


def test_a_search_that_is_still_going_on_has_a_page(run: Run, command: Command) -> None:
    run(trials=6)
    study = optuna.load_study(study_name="small", storage=DEFAULT_URL)
    running = study.ask()
    running.set_user_attr(CONFIG, {"rule": "plain", "lr": 0.1, "decay": 0.0})
    running.report(0.4, 1)
    study.enqueue_trial({"rule": "sign"})
    page = written(command)
    assert "1 running, 1 queued" in page.text
    assert re.search(r"trial 6: 0.4000, running after 1 epoch\b", page.text)


def test_a_diverging_pipeline_has_no_page_and_says_why(command: Command) -> None:
    line = ("--pipeline", "tests.blobs:diverging", "--workers", 1, "--trials", 3)
    assert command("study.run", *line).code == 0
    refused = command("study.report")
    assert refused.code == 2
    assert re.fullmatch(
        r"error: a report needs a complete trial, study '.*' has none\n", refused.err
    )
    assert not Path("study.html").exists()


@pytest.mark.parametrize("name", ["x.pdf", "x", "x.html.txt", "."])
def test_a_page_is_written_to_an_html_file_alone(name: str, run: Run, command: Command) -> None:
    run(trials=1)
    before = {*Path().iterdir()}
    refused = command("study.report", "--out", name)
    assert refused.code == 2
    assert refused.err.count("\n") == 1
    assert "must end in .html or .htm" in refused.err
    assert {*Path().iterdir()} == before


def test_a_study_of_another_program_has_no_page(command: Command) -> None:
    study = optuna.create_study(study_name="theirs", storage=DEFAULT_URL)
    study.add_trial(create_trial(value=1.0))
    refused = command("study.report")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "was not created by this program" in refused.err


def test_a_confirmation_appears_on_the_page_of_its_search_as_its_command_prints_it(
    command: Command,
) -> None:
    assert command("study.run", *BLOBS, "--trials", 8, "--study", "s").code == 0
    confirm = ("study.confirm", *BLOBS, "--study", "s", "--top", 2, "--seeds", 3)
    done = command(*confirm)
    assert done.code == 0, done
    page = written(command, "--study", "s")
    part = page.text.split("The confirmation")[1].split("Best found and")[0]
    intervals = re.findall(r"[+-]\d+\.\d\d \[[^]]+\]", done.out)
    assert len({*intervals}) >= 2
    assert all(each in part for each in intervals), (intervals, part)
    assert "Not confirmed yet" not in page.text
    again = written(command)  # the confirmation itself, which was worked on last
    assert again.headings[0] == "The best of s, retrained"
    assert intervals[0] in again.text
    assert "History of the search" not in again.headings
    printed = done.out.partition("next:")[2].split("\n")
    commands = [line.split("  #")[0].strip() for line in printed if "python -m" in line]
    assert len(commands) >= 2
    for line in commands:  # the same next steps wherever they are read
        assert line in again.text or "study.report" in line
        assert line in page.text or "study.report" in line


def test_the_control_has_the_colour_of_hand_made_settings_and_no_other_value_has() -> None:
    values = [f"value {number}" for number in range(2 * COLOURS)]
    colours = colours_of([*values[:1], "control", *values[1:]], "control")
    assert colours.pop("control") == ("hand", False)
    assert list(colours) == values
    assert len({*colours.values()}) == 2 * (COLOURS - 1)  # then they repeat
    assert {colour for colour, _ in colours.values()} == {
        f"c{number}" for number in range(COLOURS) if number != HAND_MADE
    }
    assert [*colours_of(values, "")] == values


@pytest.mark.parametrize(
    ("study", "title", "words"),
    [
        (
            "fer2013-pooling-eeae3a",
            "Pooling of the three blocks, compared",
            "max-max-max is better",
        ),
        ("fer2013-ablation-3fd76c", "Reset to the report's value, compared", "augmentation"),
        ("fer2013-baseline-17c239", "baseline, several seeds", "the report, one run"),
        ("fer2013-recipe-069c02", "recipe, several seeds", "seed 0"),
        ("fer2013-without-angry-6d4861", "Each class removed in turn", "surprise"),
    ],
)
def test_a_comparison_is_drawn_as_one(
    study: str, title: str, words: str, command: Command
) -> None:
    shutil.copy(RESULTS, "studies.db")
    page = written(command, "--study", study)
    assert page.headings[0] == title
    assert words in page.text
    assert "History of the search" not in page.headings
    assert "Created by an older version, which stored no command." in page.text


def test_a_search_of_an_older_version_has_a_whole_page(command: Command) -> None:
    shutil.copy(RESULTS, "studies.db")
    page = written(command, "--study", "fer2013-f34506")
    assert "215 epochs" in page.text
    assert "stored no confusion matri" in page.text


def change_result(number: int, **fields: Any) -> None:
    """Store more with the result of a trial, as a later version does."""
    (trial,) = (each for each in trials(study="s") if each.number == number)
    content = json.dumps({**kept(trial, RESULT), **fields})
    with sqlite3.connect("studies.db") as connection:
        connection.execute(
            "UPDATE trial_system_attributes SET value_json = ? "
            "WHERE key = 'result' AND trial_id = ?",
            (content, trial._trial_id),
        )
    connection.close()


def test_images_that_were_mistaken_are_shown_if_they_are_given(
    table: Table, tmp_path: Path, command: Command
) -> None:
    (tmp_path / "data").mkdir()
    forms = write_forms(table, tmp_path / "data")
    data = ("--data", forms["parquet"])
    line = ("--trials", 1, "--epochs", 1, "--workers", 1, "--study", "s")
    assert command("study.run", *data, *line).code == 0
    cases = [{"case": case, "truth": 0, "said": 1, "sure": 0.9} for case in (0, 5)]
    change_result(0, confusion=[[2] * 7] * 7, mistakes=cases)
    assert "img" not in {tag for tag, _ in written(command).tags}
    sources = [each["src"] for tag, each in written(command, *data).tags if tag == "img"]
    assert len({*sources}) == 2
    assert all(each and each.startswith("data:image/png;base64,") for each in sources)
    Path("page.html").unlink()
    frame(table).iloc[7:].to_csv("other.csv", index=False)
    refused = command("study.report", "--out", "page.html", "--data", "other.csv")
    assert refused.code == 2
    assert "other data" in refused.err
    assert not Path("page.html").exists()


def test_images_are_of_faces_alone(run: Run, command: Command) -> None:
    run(trials=1)
    refused = command("study.report", "--data", "faces.csv")
    assert refused.code == 2
    assert "--data is for a search of FER-2013" in refused.err


def test_the_figures_of_thousands_of_trials_stay_small() -> None:
    drawn = trials_of(searched(1200, 8))
    panels_drawn = [draw(panel, drawn, {}) for panel in panels(drawn)]
    parts = [history(drawn), curves(drawn), *panels_drawn, all_trials(drawn)]
    assert sum(len(part.encode()) for part in parts) < 1_500_000
    assert "The best 500 of 1,200" in parts[-1]
    assert "one in 2 is drawn" in parts[1]


def test_a_page_of_demo_faces_says_what_their_scores_are_worth() -> None:
    known = {"epochs": 4, "split": "grouped"}
    assert "say nothing about FER-2013" in asked({"data": "demo", **known}, 3)
    assert "say nothing" not in asked({"data": "fer2013", **known}, 3)
