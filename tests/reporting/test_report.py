"""A report says what the Runs say, and nothing that a text in the data would have it say.

- Every section and drawing stands in the page once, links lead to what is there, figures are printed as elsewhere.
- Hostile texts are there as texts: no script, no picture, no style of theirs; the policy's hash is that of the style sheet.
- The recommendations marked as met later are as many as the precision of that query says.
- Predicted and true classes are those of the stored rows; the most wrong rows come first.
- The same report twice is the same bytes; drawings are files too.
- Data that is not there, or is another one, leaves marks out and is noted; two Runs are compared, or it says why not.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from tests.reporting.conftest import HOSTILE

import towerkit as tk
from towerkit.core.errors import DataError, RunError, SpecError
from towerkit.metrics.shown import figure
from towerkit.reporting import write_report
from towerkit.reporting.sections.embedding_map import principal_plane


class Page(HTMLParser):
    """What a browser would find."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: dict[str, int] = {}
        self.ids: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.words: list[str] = []
        self._in_style = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self._in_style = tag == "style"
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src"):
                self.links.append(value or "")
            if name.startswith("on") or name == "style":
                self.handlers.append(name)

    def handle_data(self, data: str) -> None:
        if not self._in_style:
            self.words.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False


@pytest.fixture(scope="module")
def pages(
    ranking: tk.Run, prediction: tk.Run, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """The report of each Run."""
    out = tmp_path_factory.mktemp("pages")
    found = {}
    for name, run in {"ranking": ranking, "prediction": prediction}.items():
        report = write_report([run], out / f"{name}.html", base=folder, examples=12, points=50, measure=False)
        assert report.notes == () and report.files == ()
        found[name] = report.path.read_text(encoding="utf-8")
    return found


@pytest.mark.parametrize("name", ["ranking", "prediction"])
def test_the_page_is_whole_and_loads_nothing(pages: dict[str, str], name: str) -> None:
    text = pages[name]
    page = Page(text)
    assert len(set(page.ids)) == len(page.ids)
    inner = {link.removeprefix("#") for link in page.links if link.startswith("#")}
    assert inner <= set(page.ids) and {"figures", "about", "learning", "examples", "map", "cost"} <= inner
    assert [link for link in page.links if not link.startswith("#")] == ["data:,"]
    assert page.tags["style"] == 1 and page.tags["svg"] >= 4
    assert not {"script", "img", "iframe", "object", "form", "input"} & page.tags.keys() and page.handlers == []
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"style-src &#x27;sha256-{digest}&#x27;" in text and "default-src &#x27;none&#x27;" in text


@pytest.mark.parametrize("name", ["ranking", "prediction"])
def test_hostile_texts_are_texts(pages: dict[str, str], name: str) -> None:
    words = " ".join(Page(pages[name]).words)
    assert sum(each in words for each in HOSTILE) >= 3
    for each in HOSTILE[:2]:
        assert each not in pages[name]


def test_figures_are_printed_as_elsewhere(ranking: tk.Run, pages: dict[str, str]) -> None:
    words = Page(pages["ranking"]).words
    for name in ("ndcg@10", "auc", "coverage@10"):
        assert figure(ranking.evaluation.metrics[name]) in words
        assert figure(ranking.baselines["popularity"].metrics[name]) in words
    assert "By user_id.city" in words and "popularity" in words


def test_marks_are_the_hits_of_the_query(ranking: tk.Run, pages: dict[str, str]) -> None:
    details = ranking.evaluation.details["ranking"]
    precision = dict(zip(map(str, details["query"].to_pylist()), details["precision@10"].to_pylist(), strict=True))
    cards = pages["ranking"].split("<article>")[1:]
    cards = [card for card in cards if "<bdi>Recommended</bdi>" in card]
    assert len(cards) == 12
    found = {}
    for card in cards:
        title = re.search(r"<h[34]><bdi>user_id (.*?)</bdi>", card)
        assert title is not None
        found[title[1]] = card.split("</article>")[0].count("✓ met later")
    assert found == {query: round(10 * precision[query]) for query in found}
    assert sum(found.values()) > 0


def test_examples_of_predictions_are_the_stored_rows(prediction: tk.Run, pages: dict[str, str]) -> None:
    details = prediction.evaluation.details["rating"]
    told = np.stack([details[f"p{place}"].to_numpy() for place in range(5)], axis=1)
    truth = details["truth"].to_numpy().astype(int)
    surprise = -np.log(told[np.arange(len(truth)), truth])
    worst = int(np.argmax(surprise))
    after = pages["prediction"].split("Where it was most wrong about rating")[1]
    card = after.split("<article>")[1].split("</article>")[0]
    said = prediction.evaluation.protocol["tasks"]["rating"]["classes"]
    assert f"true {said[truth[worst]]}" in card
    assert f"said {said[int(told[worst].argmax())]} ({told[worst].max():.1%})" in card and "✗ wrong" in card


def test_the_same_bytes_and_drawings_as_files(
    ranking: tk.Run, folder: Path, tmp_path: Path, pages: dict[str, str]
) -> None:
    again = write_report(
        [ranking], tmp_path / "a.html", base=folder, examples=12, points=50, measure=False, plots=tmp_path / "plots"
    )
    assert again.path.read_text(encoding="utf-8") == pages["ranking"]
    names = sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert names == sorted(f"{name}.svg" for name in again.figures) and len(names) == pages["ranking"].count("<svg")


def test_without_the_data(ranking: tk.Run, prediction: tk.Run, folder: Path, tmp_path: Path) -> None:
    found = write_report(
        [ranking, prediction], tmp_path / "a.html", base=tmp_path, examples=2, points=20, measure=False
    )
    text = found.path.read_text(encoding="utf-8")
    assert len(found.notes) == 2 and "purchases.csv" in found.notes[0]
    assert "What they met later is not marked" in text and "✓ met later" not in text and "Had before" in text
    assert "No examples, since the data of the Run is not there" in text
    assert "Not compared: " in text  # one ranks, the other predicts
    other = tmp_path / "other"
    shutil.copytree(folder, other, ignore=shutil.ignore_patterns("ranking*", "prediction*"))
    lines = (other / "reviews.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (other / "reviews.csv").write_text("".join(lines[:-1]), encoding="utf-8")
    found = write_report([prediction], tmp_path / "b.html", base=other, examples=2, points=20, measure=False)
    assert len(found.notes) == 1
    assert re.match(
        r"prediction: its data was not read again: .* was trained with other rows: its examples", found.notes[0]
    )


def test_two_runs_are_compared(ranking: tk.Run, folder: Path, tmp_path: Path) -> None:
    found = write_report([ranking, ranking], tmp_path / "a.html", base=folder, examples=0, points=20, measure=True)
    words = Page(found.path.read_text(encoding="utf-8")).words
    assert "+0.0000 [0.0000, 0.0000]" in words and "within chance" in words
    assert found.sections[0] == "comparison" and "Time of an answer" in words


def test_what_cannot_be_reported(ranking: tk.Run, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="A report is about one Run or more"):
        write_report([], tmp_path / "a.html")
    with pytest.raises(SpecError, match="PNG files need a folder"):
        write_report([ranking], tmp_path / "a.html", png=True)
    kept = tmp_path / "kept.json"
    kept.write_text('{"kind": "cake"}', encoding="utf-8")
    with pytest.raises(DataError, match="received kind 'cake'"):
        write_report([ranking], tmp_path / "a.html", kept=[kept], examples=0)
    kept.write_text('{"kind": "tuning", "trials": 3}', encoding="utf-8")
    with pytest.raises(DataError, match="it says kind 'tuning', and what such a file holds is not there"):
        write_report([ranking], tmp_path / "a.html", kept=[kept], examples=0)
    with pytest.raises(RunError, match="gone.json"):
        write_report([ranking], tmp_path / "a.html", kept=[tmp_path / "gone.json"], examples=0)


def test_the_principal_plane() -> None:
    along = np.array(
        [[3.0, 0.0, 0.0], [-3.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 0.1], [0.0, 0.0, -0.1]]
    )
    plane, share = principal_plane(along + 7.0)
    np.testing.assert_allclose(plane[:, 0], [3, -3, 0, 0, 0, 0], atol=1e-12)
    np.testing.assert_allclose(plane[:, 1], [0, 0, 1, -1, 0, 0], atol=1e-12)
    assert share == pytest.approx(20 / 20.02)
    assert principal_plane(np.ones((4, 1)))[1] == 0.0
