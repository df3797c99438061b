"""SVG figures: positions of marks, axis labels, and escaping."""

import re
from xml.etree import ElementTree

import pytest

from study.page.markup import Html, html, shown, table
from study.page.svg import Axis, Figure, spread


def words_of(axis: Axis) -> list[str]:
    return [words for _, words in axis.ticks()]


@pytest.mark.parametrize(
    ("axis", "words"),
    [
        (Axis("x", 0, 1), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (Axis("x", 0.24, 0.33), ["0.24", "0.26", "0.28", "0.30", "0.32"]),
        (Axis("x", -10, 10), ["-10", "-5", "0", "5", "10"]),
        (Axis("x", 1, 4, whole=True), ["1", "2", "3", "4"]),
        (Axis("x", 1, 30, whole=True), ["5", "10", "15", "20", "25", "30"]),
        (Axis("x", 0, 2500), ["0", "500", "1,000", "1,500", "2,000", "2,500"]),
        (Axis("x", 1e-5, 1, log=True), ["1e-5", "0.0001", "0.001", "0.01", "0.1", "1"]),
        (Axis("x", 16, 256, log=True), ["20", "50", "100", "200"]),
        (Axis("x", names=("max", "average")), ["max", "average"]),
        (Axis("x", 3, 3), ["3"]),
    ],
)
def test_ticks_are_round_numbers(axis: Axis, words: list[str]) -> None:
    assert words_of(axis) == words


@pytest.mark.parametrize("low", [0.0, 0.3, -7.0, 1e-9])
@pytest.mark.parametrize("length", [1e-6, 0.04, 1.0, 12.0, 3e7])
def test_every_axis_has_a_few_ticks_within_its_ends(low: float, length: float) -> None:
    axis = Axis("x", low, low + length)
    ticks = axis.ticks()
    assert 4 <= len(ticks) <= 11
    assert all(-1e-6 <= axis.place(value) <= 1 + 1e-6 for value, _ in ticks)
    assert len({words for _, words in ticks}) == len(ticks)


def test_a_mark_lies_where_its_numbers_say() -> None:
    plot = Figure(Axis("lr", 1e-4, 1, log=True), Axis("score", 0, 1))
    across, down = plot.at(1e-2, 0.25)
    left, top = plot.at(1e-4, 1)
    right, bottom = plot.at(1, 0)
    assert (left, top) == (0, 0)
    assert across == pytest.approx(right / 2)
    assert down == pytest.approx(0.75 * bottom)


def parsed(plot: Figure) -> ElementTree.Element:
    return ElementTree.fromstring(plot.svg())


def test_names_of_a_person_are_text_in_a_figure() -> None:
    plot = Figure(Axis("<b>&'", names=("<i>", "a" * 60)), Axis('"score"', 0, 1))
    plot.point(0, 0.5, "found", title="<script>")
    plot.line([(0, 0), (1, 1)], "found", "</title>")
    found = ["".join(each.itertext()) for each in parsed(plot).iter()]
    assert {"<b>&'", "<i>", "<script>", "</title>"} <= {*found}
    assert not [each for each in parsed(plot).iter() if each.tag in ("script", "b", "i")]


def test_a_mark_that_is_not_a_number_is_left_out() -> None:
    plot = Figure(Axis("x", 0, 1), Axis("y", 0, 1))
    plot.point(float("nan"), 0.5, "found", title="nowhere")
    plot.point(0.5, float("inf"), "found")
    assert "nan" not in plot.svg()
    assert "inf" not in plot.svg()
    assert "nowhere" not in plot.svg()


def test_marks_without_titles_are_one_small_path() -> None:
    plots = [Figure(Axis("x", 0, 100), Axis("y", 0, 1)) for _ in range(2)]
    for x in range(100):
        plots[0].point(x, 0.5, "grey")
        plots[1].point(x, 0.5, "grey", title=f"trial {x}")
    few, many = (len(re.findall("class='dot grey'", plot.svg())) for plot in plots)
    assert (few, many) == (1, 100)
    assert len(plots[0].svg()) < len(plots[1].svg()) / 3


def test_a_step_line_stays_level_up_to_the_next_point() -> None:
    plot = Figure(Axis("x", 0, 1), Axis("y", 0, 1))
    plot.line([(0, 0), (0.5, 0.5), (1, 0.5)], "ink", step=True)
    right, down = plot.at(1, 0)
    assert f"d='M0 {down:g}H{right / 2:g}V{down / 2:g}H{right:g}V{down / 2:g}'" in plot.svg()


def test_an_axis_shows_all_numbers_with_room_beside_them() -> None:
    assert spread([1.0, 3.0, float("nan")]) == pytest.approx((0.9, 3.1))
    low, high = spread([2.0])
    assert low < 2 < high
    assert spread([]) == (0, 1)


def test_values_are_written_as_people_write_them() -> None:
    assert [*map(shown, (2e-4, True, None, [1, "a"], {"a": 0.5}))] == [
        *("0.0002", "yes", "-", "1, a", "a 0.5")
    ]
    assert html("<b>") == "&lt;b&gt;"
    assert html(Html("<b>")) == "<b>"


def test_columns_of_numbers_are_ranged_right() -> None:
    rows = [["name", "score", "of"], ["a", "0.51", "1 of 2"], ["b", "-", "2 of 2"]]
    assert table(rows).count("<td class='number'>") == 2
