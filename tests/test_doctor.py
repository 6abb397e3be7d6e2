"""The first look at a file names what is odd in it: empty and constant columns, missing values, repeated rows, roles."""

from __future__ import annotations

from pathlib import Path

from towerkit.doctor import examine


def test_notes_say_what_is_odd(tmp_path: Path) -> None:
    lines = [
        "user_id,movie,rating,note,country,score",
        *(f"u{n % 5},m{n % 7},{n % 3},,NL,{n if n % 2 else ''}" for n in range(40)),
    ]
    (tmp_path / "a.csv").write_text("\n".join([*lines, lines[1]]) + "\n")
    found = examine(str(tmp_path / "a.csv"))
    assert found["problems"] == []
    assert found["suggested_roles"] == {"query": "user_id", "candidate": "movie"}
    notes = "\n".join(found["notes"])
    assert "'note' is empty in every row" in notes
    assert "'country' holds one value only (NL)" in notes
    assert "'score' is missing in 51.2% of the rows" in notes
    assert "1 rows repeat an earlier row exactly" in notes


def test_a_file_that_cannot_be_read_is_a_problem_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a;b;c\n1;2;3\n", encoding="utf-16")
    found = examine(str(tmp_path / "a.csv"))
    assert found["columns"] == []
    assert str(tmp_path / "a.csv") in found["problems"][0]


def test_a_folder_that_is_no_run_is_a_problem(tmp_path: Path) -> None:
    found = examine(str(tmp_path))
    assert found["kind"] == "run"
    assert str(tmp_path) in found["problems"][0]


def test_a_password_of_an_address_is_not_shown() -> None:
    found = examine("postgresql://ann:hunter2@127.0.0.1:1/shop")
    assert found["path"] == "postgresql://ann:***@127.0.0.1:1/shop"
    assert "a database needs a query" in found["problems"][0]
    assert "hunter2" not in str(found)
