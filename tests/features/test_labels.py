"""Labels of a task.

Invariants:
- classes stand in numeric order where they are numbers, in the order of their texts otherwise; false before true;
- a label has the same code whatever type it is written in; missing, empty and unseen labels are -1;
- frequencies are the shares among the known labels, and sum to one;
- no label, one class, and more classes than the kind allows are refused with the numbers;
- a positive class that is named stands last, in every spelling of the data; a name that no class has is refused;
- the stored form gives the same labels back;
- several labels of a row are read alike from lists and texts; a null is unknown, an empty list is none of them; rare and new
  labels are left out, and rows with new ones counted; a wrong separator is told with the right one;
- a number keeps its unit and knows its scale, whatever its size; what is no number is refused with its row.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from towerkit.core.errors import DataError
from towerkit.data.readers import read_table
from towerkit.data.source import SourceSpec
from towerkit.data.table import values_of
from towerkit.features.label_scale import Scale, Transform
from towerkit.features.label_sets import SetForm
from towerkit.features.labels import Labels, TaskKind, is_known


def fitted(values: Any, kind: TaskKind = "multiclass") -> Labels:
    return Labels.fit("y", kind, pa.array(values))


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        ([10, 9, 1, 9], ("1", "9", "10")),
        ([2.0, 1.0, None], ("1", "2")),
        ([0.0, -0.0, 1.0, -1.0], ("-1", "0", "1")),
        ([0.5, -0.0, 0.0], ("0", "0.5")),
        ([2.5, 1.0, float("nan")], ("1", "2.5")),
        (["10", "9", "1"], ("1", "9", "10")),
        (["b", "10", "a", "", None], ("10", "a", "b")),
        ([True, False, None], ("0", "1")),
        (["yes", "no"], ("no", "yes")),
    ],
)
def test_classes_and_their_order(values: list[Any], classes: tuple[str, ...]) -> None:
    assert fitted(values).classes == classes


def test_codes_in_every_spelling() -> None:
    labels = fitted([1, 2, 5])
    for values in ([5, 1, 7, None], [5.0, 1.0, 1.5, float("nan")], ["5", "1", "", None]):
        assert labels.encode(pa.array(values)).tolist() == [2, 0, -1, -1]
    assert fitted([False, True]).encode(pa.array([1.0, 0.0, 2.0])).tolist() == [1, 0, -1]


def test_frequencies_are_those_of_the_known_labels() -> None:
    labels = fitted(["a", "b", "b", None, "", "b"])
    assert labels.frequencies == (0.25, 0.75)


@pytest.mark.parametrize("values", [[None, None], ["", None], [float("nan")]])
def test_no_label_is_refused(values: list[Any]) -> None:
    with pytest.raises(DataError, match="The label column 'y' has no value in the training rows"):
        fitted(values)


def test_one_class_is_refused_with_it() -> None:
    with pytest.raises(DataError, match=r"'y' holds one class only \('3'\) in the 4 training rows"):
        fitted([3, 3, None, 3])


def test_too_many_classes_are_refused_with_their_number() -> None:
    with pytest.raises(DataError, match=r"'y' holds 6 classes \(0, 1, 2, 3, 4…\), but its head is binary"):
        fitted(list(range(6)), "binary")
    with pytest.raises(DataError, match=r"'y' holds 1,001 classes, more than 1,000; is it an id\?"):
        fitted(list(range(1001)))
    assert len(fitted(list(range(1000))).classes) == 1000


def test_the_stored_form_gives_the_same_back() -> None:
    labels = fitted(["low", "high", "low"], "ordinal")
    assert Labels.from_dict(json.loads(json.dumps(labels.as_dict()))) == labels


def test_lists_are_no_labels() -> None:
    with pytest.raises(DataError, match="'y' holds lists or records"):
        fitted([[1], [2]])


@pytest.mark.parametrize(
    ("values", "positive", "classes"),
    [
        (["Ja", "Nein", None], "Ja", ("Nein", "Ja")),
        (["Ja", "Nein"], "Nein", ("Ja", "Nein")),
        (["Ja", "Nein"], None, ("Ja", "Nein")),
        ([1, 2], "1", ("2", "1")),
        ([1.0, 2.0], "1", ("2", "1")),
        ([True, False], "false", ("1", "0")),
        (["true", "maybe"], "true", ("maybe", "true")),
    ],
)
def test_the_positive_class_stands_last(values: list[Any], positive: str | None, classes: tuple[str, ...]) -> None:
    labels = Labels.fit("y", "binary", pa.array(values), positive)
    assert labels.classes == classes
    codes = labels.encode(pa.array(values))
    known = codes[codes >= 0]
    assert labels.frequencies == ((known == 0).mean(), (known == 1).mean())


def test_a_positive_class_that_is_none_is_refused() -> None:
    message = r"'y' holds the classes 'Ja', 'Nein', and 'positive' names 'ja'; did you mean 'Ja'\?"
    with pytest.raises(DataError, match=message):
        Labels.fit("y", "binary", pa.array(["Ja", "Nein"]), "ja")


def sets(values: Any, min_count: int = 1, **form: Any) -> Labels:
    return Labels.fit_sets(
        "y", values if isinstance(values, pa.Array) else pa.array(values), SetForm(**form), min_count
    )


@pytest.mark.parametrize(
    "values",
    [
        ["b|a", "a", None, " a | c ", ""],
        [["b", "a"], ["a"], None, ["a", "c"], None],
        [["b", "a", "b"], ["a", None], None, ["c", "a"], None],
    ],
)
def test_several_labels_in_lists_and_texts(values: list[Any]) -> None:
    labels = sets(values)
    assert labels.classes == ("a", "b", "c")
    truth = labels.encode(pa.array(values))
    assert truth.dtype == np.int8
    assert truth.tolist() == [[1, 1, 0], [1, 0, 0], [-1, -1, -1], [1, 0, 1], [-1, -1, -1]]
    assert is_known(truth).tolist() == [True, True, False, True, False]
    assert labels.frequencies == (1.0, 1 / 3, 1 / 3)


def test_numbers_as_labels_stand_in_numeric_order() -> None:
    assert sets(["10,9", "1", "9"], separator=",").classes == ("1", "9", "10")
    assert sets([[10, 9], [1], [9]]).classes == ("1", "9", "10")


def test_an_empty_list_has_none_of_the_labels_and_a_null_is_unknown() -> None:
    values = pa.array([["a"], [], None, ["b"]])
    assert sets(values).encode(values).tolist() == [[1, 0], [0, 0], [-1, -1], [0, 1]]
    assert sets(values).frequencies == (1 / 3, 1 / 3)
    assert sets(values, missing="none").encode(values).tolist() == [[1, 0], [0, 0], [0, 0], [0, 1]]
    assert sets(values, missing="none").frequencies == (0.25, 0.25)
    texts = pa.array(["a|b", "|", " ", "", None])  # a separator alone is a row that was looked at
    assert sets(texts).encode(texts).tolist() == [[1, 1], [0, 0], *[[-1, -1]] * 3]
    assert sets(texts, missing="none").encode(texts).tolist() == [[1, 1], *[[0, 0]] * 4]


def test_a_label_that_training_never_had_is_left_out_and_counted() -> None:
    labels = sets(["a|b", "b"])
    later = pa.array(["a|x|y", "x", None, "b"])
    assert labels.encode(later).tolist() == [[1, 0], [0, 0], [-1, -1], [0, 1]]
    assert labels.num_unknown(later) == 2
    assert sets(pa.array([["a", "b"], ["b"]])).encode(pa.array(["a|b"])).tolist() == [[1, 1]]


def test_rare_labels_are_left_out_by_rows_not_by_mentions() -> None:
    values = pa.array([["a", "a", "a"], ["b"], ["b", "c"], ["c"]])
    assert sets(values, 2).classes == ("b", "c")
    with pytest.raises(DataError, match="'y' has no label in at least min_count: 3 rows in the training rows"):
        sets(values, 3)


@pytest.mark.parametrize("values", [[None, None], ["", "|"], [[], []]])
def test_no_labels_at_all_are_refused(values: list[Any]) -> None:
    typed = pa.array(values, pa.list_(pa.string())) if values[0] == [] else pa.array(values, pa.string())
    with pytest.raises(DataError, match="The label column 'y' has no label in the training rows"):
        sets(typed)


def test_the_same_labels_everywhere_are_refused_unless_an_empty_value_says_none() -> None:
    values = ["a|b", "b|a", None]
    with pytest.raises(DataError, match=r"'y' has the same labels \('a', 'b'\) in the 3 training rows.*missing: none"):
        sets(values)
    assert sets(values, missing="none").frequencies == (2 / 3, 2 / 3)


@pytest.mark.parametrize(
    ("values", "separator", "named"),
    [
        (["a;b", "b", "a;c", "b;c", "c;a", "b;a"], "|", ";"),
        (["a, b", "b", "a, c", "b, c", "c, a", "b, a"], "|", ","),
        (["a|b", "b", "a|c", "b|c", "c|a", "b|a"], ",", "|"),
    ],
)
def test_a_wrong_separator_is_told_with_the_right_one(values: list[str], separator: str, named: str) -> None:
    message = (
        rf"never has the separator '{re.escape(separator)}' between labels, but 83% of its 6 texts have "
        rf"'{re.escape(named)}' \(for example '{re.escape(values[0])}'\). Set separator: '{re.escape(named)}'"
    )
    with pytest.raises(DataError, match=message):
        sets(values, separator=separator)
    assert sets(values, separator=named).classes == ("a", "b", "c")


def test_names_with_another_separator_in_them_are_left_whole() -> None:
    """Control of the test above: taken apart, there would be more names, not fewer; or the separator is there at times."""
    assert sets(["Rome, Italy", "Oslo, Norway"]).classes == ("Oslo, Norway", "Rome, Italy")
    assert sets(["a, b|c", "a, b", "c, d", "b, c"]).classes == ("a, b", "b, c", "c", "c, d")


def test_texts_that_look_like_lists_are_told() -> None:
    with pytest.raises(DataError, match=r"texts that look like lists \(for example \"\['a', 'b'\]\"\)"):
        sets(["['a', 'b']", "['b']"])


def test_too_many_labels_are_refused_with_their_number() -> None:
    with pytest.raises(DataError, match="'y' holds 1,001 labels, more than 1,000. Raise min_count"):
        sets([[str(n), "x"] for n in range(1000)])


def regression(values: Any, transform: Transform = "none") -> Labels:
    return Labels.fit_numbers("y", pa.array(values), transform)


def test_numbers_keep_their_unit_and_know_their_scale() -> None:
    labels = regression([1.0, 3.0, None, float("nan")])
    assert labels.scale == Scale(2.0, 1.0)
    assert labels.num_outputs == 1
    truth = labels.encode(pa.array(["2.5", None, "7"]))
    assert np.array_equal(truth, [2.5, np.nan, 7.0], equal_nan=True)
    assert is_known(truth).tolist() == [True, False, True]
    log = regression([0, np.e**2 - 1], "log").scale
    assert log is not None
    assert (log.mean, log.deviation) == pytest.approx((1.0, 1.0))


def test_huge_numbers_have_a_finite_scale() -> None:
    scale = regression([1e300, -1e300]).scale
    assert scale == Scale(0.0, 1e300)


@pytest.mark.parametrize(
    ("values", "transform", "message"),
    [
        (["1", "2", "many"], "none", "The column 'y' must hold numbers; row 3 has 'many'"),
        ([1.0, float("inf")], "none", "The column 'y' must hold finite numbers; row 2 has inf"),
        ([1.0, -0.5, -2.0], "log", r"'y' is learned as log\(1 \+ value\).*row 2 has -0.5 \(2 such rows\)"),
        ([None, None], "none", "The label column 'y' has no value in the training rows"),
        ([4, 4, None], "none", r"'y' holds one value only \(4\) in the 3 training rows"),
        ([[1.0], [2.0]], "none", "'y' holds lists or records .*; a regression needs one number per row"),
    ],
)
def test_what_is_no_number_is_refused_with_its_row(values: list[Any], transform: Transform, message: str) -> None:
    with pytest.raises(DataError, match=message):
        regression(values, transform)


@pytest.mark.parametrize("labels", [sets(["a;b", "b"], separator=";", missing="none"), regression([1, 5], "log")])
def test_the_stored_form_of_the_others_too(labels: Labels) -> None:
    assert Labels.from_dict(json.loads(json.dumps(labels.as_dict()))) == labels


def test_public_goemotions(data_root: Path) -> None:
    source = {"path": "mt-goemotions/original/train.tsv.gz", "header": False, "names": ["text", "emotions", "id"]}
    table = read_table(SourceSpec.model_validate({**source, "quoted": False, "separator": "\t"}), base=data_root)
    column = values_of(table.data, "emotions")
    labels = Labels.fit_sets("emotions", column, SetForm(","))
    assert labels.classes == tuple(str(code) for code in range(28))
    assert sum(labels.frequencies) == pytest.approx(1.177, abs=0.001)
    with pytest.raises(
        DataError, match=r"never has the separator '\|' between labels, but 16% of its 43,410 texts have ','"
    ):
        Labels.fit_sets("emotions", column, SetForm("|"))
