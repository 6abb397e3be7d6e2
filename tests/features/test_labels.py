"""Labels of a task.

Invariants:
- classes stand in numeric order where they are numbers, in the order of their texts otherwise; false before true;
- a label has the same code whatever type it is written in; missing, empty and unseen labels are -1;
- frequencies are the shares among the known labels, and sum to one;
- no label, one class, and more classes than the kind allows are refused with the numbers;
- a positive class that is named stands last, in every spelling of the data; a name that no class has is refused;
- the stored form gives the same labels back.
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest

from towerkit.core.errors import DataError
from towerkit.features.labels import Labels, TaskKind


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
