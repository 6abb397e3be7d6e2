"""Drawings show what they are given.

- Axes: every number lies within them, larger numbers farther along; ticks are round, within, and in order.
- Every drawing is well-formed, by itself and in a page, has a title, a description and a table with the same numbers.
- A mark for each figure that is finite, at its place; what is undefined is not drawn and is called so in the table.
- A label that is cut keeps its whole text.
"""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towerkit.metrics.intervals import Interval
from towerkit.reporting.axis import axis_of
from towerkit.reporting.chart import Chart, label
from towerkit.reporting.charts import Line, Point, Row, Scale, heat, intervals, lines, parallel, scatter

NAN = float("nan")
SVG = "{http://www.w3.org/2000/svg}"
numbers = st.floats(-1e9, 1e9, allow_nan=False).filter(lambda x: x == 0 or abs(x) > 1e-9)


@given(st.lists(numbers, min_size=1, max_size=12), st.booleans(), st.booleans())
def test_axes(values: list[float], log: bool, zero: bool) -> None:
    axis = axis_of(values, 0.0, 100.0, log=log, zero=zero)
    places = [axis.place(value) for value in sorted(values)]
    assert all(-1e-6 <= place <= 100 + 1e-6 for place in places) and places == sorted(places)
    ticks = axis.ticks()
    assert ticks == sorted(set(ticks)) and len(ticks) <= 9
    slack = 1e-3 * (axis.high - axis.low)
    assert all(axis.low - slack <= tick <= axis.high + slack for tick in ticks)
    assert axis.log == (log and all(value > 0 for value in values))


def test_an_axis_of_nothing() -> None:
    assert axis_of([NAN], 0.0, 1.0).ticks()


def drawn(chart: Chart) -> ElementTree.Element:
    """The drawing as a file, parsed; the one in a page must parse too."""
    inline = ElementTree.fromstring(chart.inline())  # noqa: S314  (our own text)
    ids = inline.attrib["aria-labelledby"].split()
    assert [inline[0].attrib["id"], inline[1].attrib["id"]] == ids and inline[0].text == chart.title
    root = ElementTree.fromstring(chart.alone())  # noqa: S314
    assert root.tag == f"{SVG}svg" and root[0].text == chart.title and root[1].text == chart.about
    assert chart.table.rows and all(len(row) == len(chart.table.head) for row in chart.table.rows)
    return root


def told(root: ElementTree.Element) -> list[str]:
    """What is said of marks."""
    return [each.text or "" for each in root.iter(f"{SVG}title")][1:]


def test_intervals_by_hand() -> None:
    rows = [
        Row("whole", (Interval(0.5, 0.25, 0.75, 10),)),
        Row("none", (Interval(NAN, NAN, NAN, 0),)),
        Row("gone", (None,)),
    ]
    chart = intervals("t <&> t", rows, about="a", unit="ndcg@10")
    root = drawn(chart)
    assert told(root) == ["0.5000 [0.2500, 0.7500]"]
    circle = next(root.iter(f"{SVG}circle"))
    whisker = next(line for line in root.iter(f"{SVG}line") if line.attrib["class"].startswith("ln"))
    middle = (float(whisker.attrib["x1"]) + float(whisker.attrib["x2"])) / 2
    assert float(circle.attrib["cx"]) == pytest.approx(middle, abs=0.11)
    assert chart.table.rows == (("whole", "0.5000 [0.2500, 0.7500]", "10"), ("none", "undefined", ""), ("gone", "", ""))


def test_bars_begin_at_zero() -> None:
    rows = [Row("worse", (Interval(-2.0, -3.0, -1.0, 9),)), Row("better", (Interval(1.0, 0.0, 2.0, 9),))]
    root = drawn(intervals("t", rows, about="a", bars=True))
    left, right = (each for each in root.iter(f"{SVG}rect") if "soft" in each.attrib["class"])
    zero = float(left.attrib["x"]) + float(left.attrib["width"])
    assert float(right.attrib["x"]) == pytest.approx(zero, abs=0.11)
    assert float(left.attrib["width"]) == pytest.approx(2 * float(right.attrib["width"]), abs=0.2)


def test_lines() -> None:
    curves = [Line("train", ((1.0, 3.0), (2.0, NAN), (3.0, 1.0))), Line("validation", ((1.0, 2.0),))]
    chart = lines("t", curves, about="a", across_name="epoch", upright=(3.0, "best"))
    root = drawn(chart)
    assert told(root) == ["train, 1: 3.0000", "train, 3: 1.0000", "validation, 1: 2.0000"]
    assert chart.table.rows == (("1", "3.0000", "2.0000"), ("2", "undefined", ""), ("3", "1.0000", ""))
    steps = lines("s", [Line("best", ((0.0, 1.0), (1.0, 2.0)))], about="a", across_name="s", steps=True)
    assert "H" in next(each.attrib["d"] for each in drawn(steps).iter(f"{SVG}path") if "ln" in each.attrib["class"])


def test_heat() -> None:
    chart = heat("t", [[3, 1], [0, 0]], ["cat", "dog"], about="a")
    assert told(drawn(chart)) == [
        "true cat, predicted cat: 3 (75.0% of the row)",
        "true cat, predicted dog: 1 (25.0% of the row)",
        "true dog, predicted cat: 0 (0.0% of the row)",
        "true dog, predicted dog: 0 (0.0% of the row)",
    ]
    assert chart.table.rows == (("cat", "3", "1"), ("dog", "0", "0"))


def test_scatter() -> None:
    points = [Point(0.0, 0.0, "a", 0), Point(1.0, 1.0, "b", 1), Point(2.0, 0.5, "c", -1)]
    chart = scatter("t", points, ["red", "blue"], about="a", axes=("one", "two"))
    assert told(drawn(chart)) == ["c", "a", "b"]  # those of no group lie below
    assert chart.table.rows == (("red", "1"), ("blue", "1"), ("(other)", "1"))


def test_parallel() -> None:
    scales = [Scale("lr", (0.1, 0.01, None), log=True), Scale("kind", ("a", "b", "a")), Scale("ndcg", (0.5, 0.6, 0.4))]
    names = ["trial 0", "trial 1", "trial 2"]
    chart = parallel("t", scales, about="a", order=[2, 0, 1], kinds=[1, 0, -1], names=["best", "default"], told=names)
    root = drawn(chart)
    assert told(root) == ["trial 2", "trial 0", "trial 1"]
    paths = [each.attrib["d"] for each in root.iter(f"{SVG}path") if each.find(f"{SVG}title") is not None]
    assert [path.count("L") + 1 for path in paths] == [2, 3, 3]  # the setting that a trial does not have is passed by
    assert chart.table.rows[2] == ("trial 2", "", "a", "0.4")


def test_a_cut_label_keeps_its_text() -> None:
    made = label("a" * 50, 0.0, 0.0, room=60.0)
    assert f"<title>{'a' * 50}</title>" in made and "…" in made
    assert "title" not in label("short", 0.0, 0.0, room=60.0)
