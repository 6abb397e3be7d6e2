"""Late fusion of rankers.

Invariants:
- where each member knows half of the queries, the fusion is better than both, whatever combines;
- a member's figures are those that it has alone, trained by itself with the same seed or as a baseline;
- weights depend on validation rows and not on test rows, and stand in the Run;
- neither the order of members, of example rows nor of table rows matters;
- a raw row with an unknown key is answered from its text; a row with the columns of a known key as that key is; pairs have the
  scores of the ranking; new candidates find the queries that name them; a history is refused;
- a Run comes back the same, with the columns that its segments name and words cut as they were; its card says how it is asked;
- files that do not fit are refused by name;
- a training that was stopped is found again; mixed members, unfit combiners and what has no text are refused in a sentence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from towerkit.api import fit, read
from towerkit.artifact.arrow import load_table, save_table
from towerkit.core.errors import DataError, RunError, SpecError
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset
from towerkit.ensembles.rank_files import load_fusion, load_rank_fusion, save_rank_fusion
from towerkit.ensembles.rank_fusion import RankFusion
from towerkit.ensembles.rank_members import TowersMember
from towerkit.evaluation.compare import compare
from towerkit.experiment import Outcome, checkpoints_of, estimates_of, train_and_evaluate
from towerkit.run import Run, load_run
from towerkit.spec import ModelingSpec
from towerkit.storage.tensors import load_tensors, save_tensors
from towerkit.training.loop import Silent
from towerkit.training.progress import Step

ID = {"kind": "id", "dim": 8}
TOWERS = {"kind": "two_tower", "query": ID, "candidate": ID}
SPECTRAL = {"kind": "two_tower", "query": {"kind": "spectral", "dim": 4}, "candidate": {"kind": "spectral", "dim": 4}}
WORDS = {"kind": "bm25", "query": ["asks"], "candidate": ["says"]}
DOCUMENTS, QUERIES = 60, 120


def tables(seed: int = 0) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Queries of two sorts: one asks in words that its documents have, the other likes what its kind likes, and says nothing."""
    draw = np.random.default_rng(seed)
    pairs, asks = [], []
    for query in range(QUERIES):
        kind, by_words = query % 6, query % 2 == 0
        liked = [document for document in range(DOCUMENTS) if document % 6 == kind]
        topics = draw.choice(DOCUMENTS // 5, 2, replace=False)
        told = [document for document in range(DOCUMENTS) if document // 5 in topics]
        asks.append(f"please find topic{topics[0]} and topic{topics[1]}" if by_words else "please find what is good")
        pairs += [(f"q{query}", f"d{document}") for document in draw.permutation(told if by_words else liked)[:9]]
    query, document = zip(*pairs, strict=True)
    order = draw.permutation(len(pairs))
    examples = pa.table({"query": query, "doc": document}).take(pa.array(order))
    says = [f"a text of topic{number // 5} with more words" for number in range(DOCUMENTS)]
    titles = [f"Document {number}" for number in range(DOCUMENTS)]
    return (
        examples,
        pa.table({"query": [f"q{number}" for number in range(QUERIES)], "asks": asks}),
        pa.table({"doc": [f"d{number}" for number in range(DOCUMENTS)], "says": says, "title": titles}),
    )


def dataset(
    examples: pa.Table | None = None, *, queries: pa.Table | None = None, documents: pa.Table | None = None
) -> Dataset:
    whole, asked, told = tables()
    entities = {
        "query": asked if queries is None else queries,
        "doc": {"table": told if documents is None else documents, "key": "doc", "title": "title"},
    }
    split = {"kind": "per_query", "validation": 0.15, "test": 0.25}
    return read(whole if examples is None else examples, query="query", candidate="doc", entities=entities, split=split)


def spec_of(combine: Any = None, members: Any = None, **more: Any) -> ModelingSpec:
    model: dict[str, Any] = {"kind": "late_fusion", "members": members or {"vectors": SPECTRAL, "words": WORDS}}
    if combine is not None:
        model["combine"] = combine
    evaluation = {"k": [5], "baselines": ["popularity"]}
    return parse(ModelingSpec, {"model": model, "evaluation": evaluation} | more)


@lru_cache(maxsize=4)
def outcome_of(combine: str) -> Outcome:
    return train_and_evaluate(spec_of({"kind": combine}), dataset(), Silent())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fit(spec_of(), dataset(), run=tmp_path_factory.mktemp("runs") / "fusion")


def figure(outcome: Any, metric: str = "ndcg@5") -> float:
    return float(outcome.metrics[metric].value)


@pytest.mark.parametrize("combine", ["average", "weighted", "rrf"])
def test_better_than_both_members_where_each_knows_half(combine: str) -> None:
    outcome = outcome_of(combine)
    members = [outcome.baselines["member vectors"], outcome.baselines["member words"]]
    chance = figure(outcome.baselines["popularity"])
    assert all(figure(member) > chance + 0.1 for member in members), "each must know something"
    assert figure(outcome.evaluation) > max(map(figure, members)) + 0.1
    for member in members:  # and clearly so, on the same queries
        assert compare(member, outcome.evaluation)["ndcg@5"].low > 0


def test_the_default_is_weighted_and_the_weights_stand_in_the_model() -> None:
    model = train_and_evaluate(spec_of(), dataset(), Silent()).model
    assert isinstance(model, RankFusion) and model.spec.combine.kind == "weighted"
    assert sum(model.weights.values()) == pytest.approx(1) and min(model.weights.values()) > 0
    assert outcome_of("average").model.weights == {"vectors": 0.5, "words": 0.5}  # type: ignore[union-attr]


def test_a_member_is_what_it_is_alone() -> None:
    training = {"epochs": 3, "batch_size": 128}
    fused = train_and_evaluate(spec_of(members={"a": TOWERS, "b": WORDS}, training=training), dataset(), Silent())
    alone = parse(ModelingSpec, {"model": TOWERS, "training": training, "evaluation": {"k": [5], "baselines": [WORDS]}})
    single = train_and_evaluate(alone, dataset(), Silent())
    assert fused.baselines["member a"].as_dict() == single.evaluation.as_dict()
    assert fused.baselines["member b"].as_dict() == single.baselines["bm25"].as_dict()
    told = [record["stage"] for record in fused.history.records]
    assert told == [f"member a: {record['stage']}" for record in single.history.records]


def moved(data: Dataset, part: str) -> Dataset:
    """Other documents in the rows of one part, none of which its query has."""
    rows = getattr(data.parts, part)
    pairs = set(zip(*data.examples.data.select(["query", "doc"]).to_pydict().values(), strict=True))
    queries, documents = (data.examples.data.column(name).to_pylist() for name in ("query", "doc"))
    for row in rows.tolist():
        fresh = next(f"d{n}" for n in range(DOCUMENTS) if (queries[row], f"d{n}") not in pairs)
        pairs.add((queries[row], fresh))
        documents[row] = fresh
    place = data.examples.data.column_names.index("doc")
    table = data.examples.data.set_column(place, "doc", pa.array(documents))
    return dataset(table).with_parts(data.parts)


def test_weights_come_from_validation_and_not_from_test() -> None:
    data = dataset()
    before = outcome_of("weighted").model.weights  # type: ignore[union-attr]
    assert train_and_evaluate(spec_of(), moved(data, "test"), Silent()).model.weights == before  # type: ignore[union-attr]
    assert train_and_evaluate(spec_of(), moved(data, "validation"), Silent()).model.weights != before  # type: ignore[union-attr]


def test_without_validation_the_members_weigh_alike() -> None:
    whole, asked, told = tables()
    split = {"kind": "per_query", "validation": 0.0, "test": 0.25}
    data = read(whole, query="query", candidate="doc", entities={"query": asked, "doc": told}, split=split)
    model = train_and_evaluate(spec_of(), data, Silent()).model
    assert isinstance(model, RankFusion) and model.weights == {"vectors": 0.5, "words": 0.5}


def test_no_order_matters() -> None:
    _, asked, told = tables()
    expected = outcome_of("weighted")
    turned = spec_of(members={"words": WORDS, "vectors": SPECTRAL})
    found = train_and_evaluate(turned, dataset(), Silent())
    assert found.evaluation.as_dict() == expected.evaluation.as_dict()
    draw = np.random.default_rng(1)
    shuffled = dataset(
        queries=asked.take(pa.array(draw.permutation(len(asked)))),
        documents=told.take(pa.array(draw.permutation(len(told)))),
    )
    found = train_and_evaluate(spec_of(), shuffled, Silent())
    assert found.model.weights == expected.model.weights  # type: ignore[union-attr]
    for metric, interval in expected.evaluation.metrics.items():
        assert found.evaluation.metrics[metric].value == pytest.approx(interval.value, abs=0.02), "but for ties"


def test_answers(run: Run) -> None:
    known = run.recommend("q0", k=5)
    assert known.column_names == ["query", "rank", "doc", "title", "score", "cold"]
    assert known["title"].to_pylist() == [f"Document {key[1:]}" for key in known["doc"].to_pylist()]
    asked = tables()[1]
    assert run.recommend(rows=asked.slice(0, 1), k=5).equals(known)
    named = pa.table({"query": ["new", None], "asks": ["find topic3", "topic7, please"]})
    answer = run.recommend(rows=named, k=5)
    assert all(answer["cold"].to_pylist())
    assert {int(key[1:]) // 5 for key in answer["doc"].to_pylist()[:5]} == {3}
    assert {int(key[1:]) // 5 for key in answer["doc"].to_pylist()[5:]} == {7}
    pairs = run.predict(pa.table({"query": known["query"], "doc": known["doc"]}))
    np.testing.assert_allclose(pairs["score"], known["score"], rtol=1e-6)
    strange = run.predict(pa.table({"query": ["q0", "?"], "doc": ["?", "d1"]}))
    assert strange["cold"].to_pylist() == [True, True] and np.isfinite(strange["score"]).all()
    fresh = run.queries_for(pa.table({"doc": ["new"], "says": ["all of topic3"]}), k=4)
    wanting = {f"q{n}" for n, text in enumerate(asked["asks"].to_pylist()) if "topic3 " in f"{text} "}
    assert set(fresh["query"].to_pylist()) <= wanting and fresh.num_rows == 4


def test_a_history_is_refused_with_the_way_out(run: Run) -> None:
    with pytest.raises(RunError, match="late_fusion of rankers, and a history is no query"):
        run.recommend(history=["d1"])
    rows = pa.table({"query": ["q0"], "asks": ["topic1"], "history": [["d1"]]})
    with pytest.raises(DataError, match="column 'history'.*Rename or remove"):
        run.recommend(rows=rows)
    with pytest.raises(DataError, match="'asks'"):
        run.recommend(rows=pa.table({"other": ["q0"]}))


def test_what_needs_one_vector_is_refused(run: Run) -> None:
    assert run.space is None
    with pytest.raises(RunError, match="its members share no vector, and likeness is measured by vectors"):
        run.similar("d1")
    with pytest.raises(RunError, match="its members share no vector. Embed with"):
        run.embed(side="query")


def test_keys_alone_and_a_choice_of_candidates(run: Run) -> None:
    known = run.recommend("q0", k=5)
    assert run.recommend(rows=pa.table({"query": ["q0"]}), k=5).equals(known)
    every = run.recommend("q0", k=100)["doc"].to_pylist()
    some = every[3:20]
    chosen = run.recommend("q0", k=5, allow=some, deny=some[:2], where=f'doc != "{some[3]}"')
    assert chosen["doc"].to_pylist() == [some[2], *some[4:8]]
    rows = pa.table({"query": ["q0", "q0"], "allow": [some, None], "deny": [some[:1], every[:1]]})
    assert run.recommend(rows=rows, k=3)["doc"].to_pylist() == [*some[1:4], *every[1:4]]


def test_everyone_is_answered_as_one_by_one(run: Run, tmp_path: Path) -> None:
    written = run.recommend_all(tmp_path / "all.arrow", k=3, chunk=7)
    assert written.rows == 3 * written.queries
    every = load_table(tmp_path / "all.arrow").select(["query", "doc"]).to_pylist()
    for key in ("q0", "q7", "q119"):
        assert [row["doc"] for row in every if row["query"] == key] == run.recommend(key, k=3)["doc"].to_pylist()


def test_fresh_rows_are_evaluated_as_the_test_was(run: Run) -> None:
    data = dataset()
    rows = data.examples.data.take(pa.array(data.parts.test))
    fresh = run.evaluate(rows)
    assert {name: each.value for name, each in fresh.metrics.items()} == {
        name: each.value for name, each in run.evaluation.metrics.items()
    }
    assert run.tasks == [] and run.kind == "late_fusion"


def test_segments_and_prefixes_are_kept_by_the_run(tmp_path: Path) -> None:
    documents, queries = tables()[2], tables()[1]
    sorts = ["asks" if number % 2 == 0 else "silent" for number in range(QUERIES)]
    endings = [
        text.replace("with", f"with ending{number}") for number, text in enumerate(documents["says"].to_pylist())
    ]
    data = dataset(
        queries=queries.append_column("sort", pa.array(sorts)),
        documents=documents.set_column(1, "says", pa.array(endings)),
    )
    words = {**WORDS, "prefix": 6}
    evaluation = {"k": [5], "baselines": ["popularity"], "segments": ["query.sort", "popularity"]}
    spec = spec_of({"kind": "rrf"}, {"vectors": SPECTRAL, "words": words}, evaluation=evaluation)
    found = fit(spec, data, run=tmp_path / "run")
    run = load_run(tmp_path / "run")
    kept = run.evaluation.segments["query.sort"]
    assert kept.keys() == {"asks", "silent"}
    assert sum(each["ndcg@5"].n for each in kept.values()) == run.evaluation.metrics["ndcg@5"].n
    words_alone = run.baselines["member words"].segments["query.sort"]
    assert words_alone["asks"]["ndcg@5"].value > words_alone["silent"]["ndcg@5"].value + 0.1
    fresh = run.evaluate(data.examples.data.take(pa.array(data.parts.test)))
    assert fresh.as_dict()["segments"] == run.evaluation.as_dict()["segments"]
    model = found.model
    assert isinstance(model, RankFusion)
    index = load_table(run.path / "model" / "members" / "words" / "words.arrow")["word"].to_pylist()
    assert "ending" in index and max(map(len, index)) == 6
    rows = pa.table({"query": ["new"], "asks": ["endingless"]})
    assert run.recommend(rows=rows, k=4).equals(found.recommend(rows=rows, k=4))


def test_the_card_says_what_it_is_and_how_it_is_asked(tmp_path: Path) -> None:
    spec = spec_of(members={"vectors": TOWERS, "words": WORDS}, training={"epochs": 1})
    run = fit(spec, dataset(), run=tmp_path / "run")
    card = (run.path / "card.md").read_text(encoding="utf-8")
    assert 'run.recommend("a key", k=10)' in card and "towerkit recommend RUN --query KEY" in card
    assert "Embedding space" not in card
    assert isinstance(run.model, RankFusion)
    towers = run.model.members["vectors"]
    assert isinstance(towers, TowersMember)
    count = sum(each.numel() for each in towers.retriever.model.parameters())
    assert count > 0 and f" {count:,} learned numbers" in card


def test_a_fusion_comes_back(run: Run, tmp_path: Path) -> None:
    model = run.model
    assert isinstance(model, RankFusion)
    save_rank_fusion(tmp_path / "again", model)
    again = load_fusion(tmp_path / "again")
    assert isinstance(again, RankFusion)
    assert (again.spec, again.weights, again.titles) == (model.spec, model.weights, model.titles)
    rows = np.arange(QUERIES + 1)
    np.testing.assert_array_equal(again.ranker.scores(rows), model.ranker.scores(rows))
    assert again.query.table.data.column_names == ["query", "asks"], "what the members read"
    assert {path.name for path in (tmp_path / "again" / "members" / "words").iterdir()} == {
        "model.json",
        "words.arrow",
        "counts.safetensors",
    }


def edited(path: Path, **values: Any) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, **values}), encoding="utf-8")


def changed(path: Path, **arrays: Any) -> None:
    tensors = {name: np.array(array) for name, array in load_tensors(path).items()}
    save_tensors(path, {**tensors, **arrays})


def damage(folder: Path, what: str) -> None:
    words = folder / "members" / "words"
    counts = load_tensors(words / "counts.safetensors")
    if what == "weights":
        edited(folder / "model.json", weights={"words": 1.0})
    elif what == "weight":
        edited(folder / "model.json", weights={"words": "much", "vectors": 0.5})
    elif what == "titles":
        edited(folder / "model.json", titles={"doc": "name"})
    elif what == "queries":
        save_table(folder / "query.arrow", load_table(folder / "query.arrow").slice(1))
    elif what == "keys":
        table = load_table(folder / "query.arrow")
        save_table(folder / "query.arrow", table.take(pa.array(range(len(table))[::-1])))
    elif what == "texts":
        save_table(folder / "query.arrow", load_table(folder / "query.arrow").select(["query"]))
    elif what == "words":
        table = load_table(words / "words.arrow")
        save_table(words / "words.arrow", pa.concat_tables([table.slice(1), table.slice(1, 1)]).combine_chunks())
    elif what == "place":
        changed(words / "counts.safetensors", words=np.array(counts["words"]) + 1000)
    elif what == "count":
        changed(words / "counts.safetensors", counts=-np.array(counts["counts"]))
    elif what == "starts":
        starts = np.array(counts["starts"])
        starts[3] = starts[-1] + 7
        changed(words / "counts.safetensors", starts=starts)
    elif what == "short":
        changed(words / "counts.safetensors", words=np.array(counts["words"])[:-1])
    elif what == "key":
        edited(folder / "model.json", more=1)
    elif what == "lost":
        kept = {name: np.array(array) for name, array in counts.items() if name != "starts"}
        save_tensors(words / "counts.safetensors", kept)
    elif what == "seen":
        seen = load_tensors(folder / "seen.safetensors")
        changed(folder / "seen.safetensors", candidates=np.array(seen["candidates"]) + DOCUMENTS)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("weights", r"model\.json: needs one finite weight for each of 'vectors', 'words'"),
        ("weight", r"model\.json: needs one finite weight .*'much'"),
        ("titles", r"model\.json: titles names 'name' .*'doc', 'says', 'title'"),
        ("queries", r"seen\.safetensors does not fit"),
        ("keys", r"members/vectors/query\.arrow does not fit .*other keys"),
        ("texts", r"words/model\.json does not fit .*'asks'"),
        ("words", r"words\.arrow does not fit .*not distinct"),
        ("place", r"counts\.safetensors does not fit"),
        ("count", r"counts\.safetensors does not fit .*whole number of at least 1"),
        ("lost", r"counts\.safetensors does not fit .*it holds 'counts', 'words' in place of"),
        ("starts", r"counts\.safetensors does not fit .*outside the 61 x"),
        ("short", r"counts\.safetensors does not fit .*no matrix of 61 x"),
        ("key", r"model\.json: unknown key 'more'"),
        ("seen", r"seen\.safetensors does not fit"),
    ],
)
def test_files_that_do_not_fit_are_refused_by_name(run: Run, tmp_path: Path, what: str, message: str) -> None:
    model = run.model
    assert isinstance(model, RankFusion)
    save_rank_fusion(tmp_path / "again", model)
    load_rank_fusion(tmp_path / "again")
    damage(tmp_path / "again", what)
    with pytest.raises(RunError, match=message):
        load_rank_fusion(tmp_path / "again")


def test_members_and_baselines_are_compared_on_the_same_queries(run: Run) -> None:
    assert list(run.baselines) == ["member vectors", "member words", "popularity"]
    assert {each.metrics["ndcg@5"].n for each in run.baselines.values()} == {run.evaluation.metrics["ndcg@5"].n}
    assert "member words" in (run.path / "card.md").read_text(encoding="utf-8")
    assert load_run(run.path).evaluation.as_dict() == run.evaluation.as_dict()


class Counting(Silent):
    """Counts steps, and stops the training at one."""

    def __init__(self, last: int | None = None) -> None:
        self.steps, self.last = 0, last

    def step(self, step: Step) -> None:
        self.steps += 1
        if self.steps == self.last:
            raise KeyboardInterrupt


def test_a_training_that_was_stopped_is_found_again(tmp_path: Path) -> None:
    members = {"one": TOWERS, "two": {**TOWERS, "match": {"kind": "cosine"}}, "words": WORDS}
    spec, data = spec_of(members=members, training={"epochs": 2, "batch_size": 128}), dataset()

    def train(run: str, progress: Counting) -> Outcome:
        return train_and_evaluate(spec, data, progress, checkpoints_of(tmp_path / run, spec, data))

    whole = Counting()
    expected = train("whole", whole)
    with pytest.raises(KeyboardInterrupt):
        train("run", Counting(last=whole.steps - 2))
    rest = Counting()
    found = train("run", rest)
    assert found.evaluation.as_dict() == expected.evaluation.as_dict()
    assert found.model.weights == expected.model.weights  # type: ignore[union-attr]
    assert 0 < rest.steps < whole.steps / 2


def test_estimates_name_the_members_that_train() -> None:
    spec = spec_of(members={"a": TOWERS, "b": WORDS}, training={"epochs": 1})
    assert list(estimates_of(spec, dataset())) == ["member a"]


PREDICTOR: Mapping[str, Any] = {
    "kind": "tower_model",
    "towers": {"t": {"kind": "text", "columns": ["says"], "dim": 4}},
    "heads": {"h": {"kind": "binary", "column": "liked"}},
}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"members": {"w": WORDS, "p": PREDICTOR}}, "must all rank .* received 'w', a bm25, beside 'p', a tower_model"),
        (
            {"members": {"w": WORDS, "v": WORDS}, "combine": {"kind": "stack"}},
            "'stack' is not for members that rank; use ",
        ),
        (
            {"members": {"w": PREDICTOR, "v": PREDICTOR}, "combine": {"kind": "rrf"}},
            "'rrf' is not for members that predict",
        ),
        ({"members": {"w": WORDS}}, "needs 2 or more entries"),
        ({"members": {"w": {**WORDS, "k1": -1}, "v": WORDS}}, r"members\.w\.k1: .*-1"),
    ],
)
def test_what_cannot_be_fused_is_refused(model: Mapping[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse(ModelingSpec, {"model": {"kind": "late_fusion", **model}})


def test_settings_of_two_towers_need_one_among_the_members() -> None:
    update = {"update": {"kind": "one_backprop"}}
    assert spec_of(members={"a": TOWERS, "b": WORDS}, **update).update.kind == "one_backprop"
    with pytest.raises(SpecError, match="'update' belongs to a two_tower"):
        spec_of(members={"a": WORDS, "b": {**WORDS, "b": 0.5}}, **update)
    assert spec_of(evaluation={"select_by": "recall@5", "k": [5]}).evaluation.select_by == "recall@5"


def test_texts_and_pairs_are_needed(tmp_path: Path) -> None:
    whole, *_ = tables()
    bare = read(whole, query="query", candidate="doc", split={"kind": "per_query", "validation": 0.1, "test": 0.2})
    with pytest.raises(DataError, match="'asks' of 'query', which has no table"):
        train_and_evaluate(spec_of(), bare, Silent())
    found = spec_of(members={"a": SPECTRAL, "b": {"kind": "bm25"}})
    with pytest.raises(SpecError, match="the table of 'query' has no column of texts"):
        train_and_evaluate(found, bare, Silent())
    with pytest.raises(DataError, match="A model that ranks compares a query with a candidate"):
        train_and_evaluate(spec_of(), read(whole), Silent())


def test_a_fusion_is_fitted_anew(run: Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is a late_fusion, which is fitted anew"):
        fit(spec_of(), dataset(), run=tmp_path / "more", base=run.path)


def test_given_weights_are_taken_by_their_proportions_and_nothing_is_chosen() -> None:
    model = train_and_evaluate(
        spec_of({"kind": "weighted", "weights": {"vectors": 3, "words": 1}}), dataset(), Silent()
    ).model
    assert isinstance(model, RankFusion) and model.weights == {"vectors": 0.75, "words": 0.25}
    with pytest.raises(SpecError, match=r"combine\.weights must not all be 0"):
        spec_of({"kind": "weighted", "weights": {"vectors": 0, "words": 0}})
