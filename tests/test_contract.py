"""The contract of every model kind, by :mod:`towerkit.testing.contract`: a new kind joins by one line in ``CASES``.

Pinned for each kind: training leaves global state alone and repeats with its seed; a spec survives JSON; a Run answers
raw rows in a new process, with the training data deleted, as the model did before it was saved (unseen keys, missing
values, columns in another order, extra columns included); a row alone is a row of a batch; stored and fresh evaluation;
comparison with another seed; any changed byte is found.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from towerkit.data.shop import shop_table
from towerkit.testing import contract
from towerkit.testing.contract import ModelContract
from towerkit.testing.promises import require_same, untouched_global_state

TRAINING = {"epochs": 2, "batch_size": 256, "optimizer": {"kind": "adam", "lr": 0.02}}
REVIEW_COLUMNS = ["product_id", "title", "text", "age", "helpful_count", "rating", "recommended", "category", "tags"]


def retrieval(
    name: str,
    query: Any,
    candidate: Any,
    *,
    match: str = "dot",
    update: Any,
    entities: bool,
    is_random: bool = True,
    more: dict[str, pa.ChunkedArray] | None = None,
) -> ModelContract:
    """A two-tower over the shop's purchases; with entities, new rows of both sides are described by columns.

    ``more`` are further columns of the products."""
    users = shop_table("users", size="small").select(["user_id", "age", "city", "plan"])
    products = shop_table("products", size="small").select(["product_id", "title", "category", "brand", "price"])
    for column, values in (more or {}).items():
        products = products.append_column(column, values)
    return ModelContract(
        name=name,
        spec={
            "model": {"kind": "two_tower", "query": query, "candidate": candidate, "match": {"kind": match}},
            "objective": {"loss": {"kind": "sampled_softmax"}, "negatives": [{"kind": "uniform", "count": 3}]},
            "update": update,
            "training": TRAINING,
            "evaluation": {"k": [5, 10]},
        },
        examples=shop_table("purchases", size="small").select(["user_id", "product_id", "time"]).slice(0, 1200),
        roles={"query": "user_id", "candidate": "product_id", "time": "time"},
        entities={"user_id": users, "product_id": products} if entities else {},
        split={"kind": "time", "validation": 0.1, "test": 0.15},
        is_random=is_random,
    )


def made_vectors() -> pa.ChunkedArray:
    """A vector for most products, as another model might have made it."""
    draw = np.random.default_rng(5)
    count = shop_table("products", size="small").num_rows
    rows = [None if place % 9 == 4 else draw.normal(0.0, 2.0, 6).round(3).tolist() for place in range(count)]
    return pa.chunked_array([rows], pa.list_(pa.float32()))


def search(name: str, **combine: Any) -> ModelContract:
    """A fusion of rankers: what a user likes in words, and vectors."""
    base = retrieval(name, PROFILE, ATTRIBUTES, match="cosine", update={"kind": "two_backprop"}, entities=True)
    users, products = base.entities["user_id"], base.entities["product_id"]
    category = dict(zip(*products.select(["product_id", "category"]).to_pydict().values(), strict=True))
    bought = dict(zip(*base.examples.select(["user_id", "product_id"]).to_pydict().values(), strict=True))
    wish = pa.array([f"more {category.get(bought.get(user))}" for user in users["user_id"].to_pylist()])
    towers = base.spec["model"]
    words = {"kind": "bm25", "query": ["wish"], "candidate": ["title", "category"]}
    model = {"kind": "late_fusion", "members": {"vectors": towers, "words": words}, "combine": combine}
    entities = {"user_id": users.append_column("wish", wish), "product_id": products}
    return replace(base, spec={**base.spec, "model": model}, entities=entities)


def pairs(name: str) -> ModelContract:
    """A fusion of what is fitted on pairs alone."""
    base = retrieval(name, SPECTRAL, SPECTRAL, update={"kind": "two_backprop"}, entities=False, is_random=False)
    members = {"towers": base.spec["model"], "counts": {"kind": "cooccurrence"}, "linear": {"kind": "ease", "l2": 50}}
    weights = {"towers": 0.5, "counts": 0.3, "linear": 0.2}
    model = {"kind": "late_fusion", "members": members, "combine": {"kind": "weighted", "weights": weights}}
    return replace(base, spec={**base.spec, "model": model})


def ranker(name: str, **model: Any) -> ModelContract:
    """A ranker over the shop's ratings: towers of both sides, and of what is known of a request."""
    base = retrieval(name, ID, ID, update={"kind": "two_backprop"}, entities=True)
    spec = {key: part for key, part in base.spec.items() if key != "update"}
    examples = shop_table("ratings", size="small").select(["user_id", "product_id", "rating", "time"]).slice(0, 1200)
    return replace(base, spec={**spec, "model": {"kind": "ranker", **model}}, examples=examples)


def reranked(name: str) -> ModelContract:
    """A two-tower that retrieves, and a ranker that orders what it found."""
    base = retrieval(name, PROFILE, ATTRIBUTES, update={"kind": "two_backprop"}, entities=True)
    spec = {key: part for key, part in base.spec.items() if key != "update"}
    members = {"retriever": base.spec["model"], "ranker": {"kind": "ranker", "towers": BOTH, "layers": [8]}}
    model = {
        "kind": "late_fusion",
        "members": members,
        "combine": {"kind": "rerank", "first": "retriever", "depth": 20},
    }
    return replace(base, spec={**spec, "model": model})


def joint(name: str) -> ModelContract:
    """A joint model of one sort of candidates, which is asked as a two-tower is; see `tests/models/test_joint.py` for several."""
    base = retrieval(name, PROFILE, ATTRIBUTES, update={"kind": "two_backprop"}, entities=True)
    spec = {key: part for key, part in base.spec.items() if key != "update"}
    model = {"kind": "joint", "query": PROFILE, "candidates": {"product_id": ATTRIBUTES}}
    return replace(base, spec={**spec, "model": model}, roles={"query": "user_id", "time": "time"})


def prediction(name: str, model: Any, entities: dict[str, pa.Table] | None = None) -> ModelContract:
    """A predictor over the shop's reviews."""
    return ModelContract(
        name=name,
        spec={"model": model, "training": TRAINING},
        examples=shop_table("reviews", size="small").select(REVIEW_COLUMNS).slice(0, 500),
        entities=entities or {},
    )


ID = {"kind": "id", "dim": 8}
UPDATE = {"kind": "two_backprop"}
SPECTRAL, WARM = {"kind": "spectral", "dim": 8}, {**ID, "start": "spectral"}
GRAPH = {"kind": "graph", "layers": 2, "of": ID}
WORDS = {"kind": "text", "columns": ["title", "text"], "encoder": {"kind": "hashed_ngrams", "buckets": 1024}, "dim": 8}
NUMBERS = {"kind": "table", "columns": ["age", "helpful_count", "category"], "layers": [8], "dim": 8}
TAGS, HELP = (
    {"kind": "multilabel", "column": "tags", "separator": ";"},
    {"kind": "regression", "column": "helpful_count", "loss": "huber", "transform": "log"},
)
WEIGHED = {"kind": "binary", "column": "recommended", "class_weights": "balanced", "focal": 2.0}
STARS, LIKED = {"kind": "ordinal", "column": "rating"}, {"kind": "binary", "column": "recommended"}
PROFILE = {"towers": {"id": ID, "profile": {"kind": "table", "columns": ["age", "city"], "layers": [], "dim": 8}}}
ATTRIBUTES = {
    "towers": {
        "id": ID,
        "attributes": {"kind": "table", "columns": ["category", "price"], "layers": [], "dim": 8},
        "words": {"kind": "text", "columns": ["title"], "encoder": {"kind": "hashed_ngrams", "buckets": 512}, "dim": 8},
    }
}
BOTH = {
    "user": {**ID, "entity": "user_id"},
    "profile": {**PROFILE["towers"]["profile"], "entity": "user_id"},
    "product": {**ID, "entity": "product_id"},
    "attributes": {**ATTRIBUTES["towers"]["attributes"], "entity": "product_id"},
}
WHEN = {"kind": "table", "columns": ["time"], "layers": [], "dim": 4}
MET = {"kind": "history", "dim": 8, "half_life_days": 30.0}
PROFILE_AND_MET = {"towers": {"met": MET, "profile": PROFILE["towers"]["profile"]}}
IN_ORDER = {"kind": "sequence", "dim": 8, "length": 6, "ages": True}
ID_AND_MET = {"kind": "id_history", "dim": 8, "of": "own", "length": 5, "half_life_events": 3, "gate": "learned"}
SHARED = {"kind": "text", "dim": 8, "encoder": {"kind": "hashed_ngrams", "buckets": 512, "together": True}}
ASKED, SHOWN = {**SHARED, "columns": ["city"], "of": "candidate"}, {**SHARED, "columns": ["title"], "start": "spectral"}
PRODUCT = {"kind": "table", "entity": "product_id", "columns": ["brand", "price"], "layers": [], "dim": 8}
VECTOR = {"kind": "vector", "columns": ["vector"], "layers": [8], "dim": 8}
VECTOR_OF_PRODUCT = {**VECTOR, "entity": "product_id", "scale": "standard"}
PICTURE = {
    "kind": "image",
    "column": "image",
    "size": 8,
    "encoder": {"kind": "convolution", "channels": [4, 8], "augment": {}},
    "dim": 8,
}
PICTURE_OF_PRODUCT = {**PICTURE, "entity": "product_id"}
SOUND = {
    "kind": "audio",
    "column": "sound",
    "rate": 4000,
    "seconds": 0.2,
    "mels": 8,
    "encoder": {"kind": "convolution", "channels": [4]},
    "dim": 8,
}
SOUND_OF_PRODUCT = {**SOUND, "entity": "product_id"}
MEMBERS = {
    "text": {"kind": "tower_model", "towers": {"text": WORDS}, "heads": {"liked": LIKED}},
    "trees": {
        "kind": "xgboost",
        "columns": ["age", "helpful_count", "category"],
        "task": LIKED,
        "rounds": 8,
        "depth": 3,
    },
}


def estimator(columns: list[str], task: Any = LIKED, **keys: Any) -> dict[str, Any]:
    """A member of scikit-learn."""
    return {"kind": "sklearn", "estimator": keys, "columns": columns, "task": task}


ESTIMATORS = {
    "words": {**estimator(["title", "text"], kind="logistic_regression"), "buckets": 512},
    "forest": estimator(["age", "category"], kind="random_forest", n_estimators=10),
    "boosted": estimator(["age", "category"], kind="hist_gradient_boosting", max_iter=10),
    "near": estimator(["age", "helpful_count"], kind="knn"),
    "margin": estimator(["age", "category"], kind="svm"),
    "bayes": estimator(["age", "category"], kind="naive_bayes"),
}
RATED = {"kind": "tower_model", "towers": {"table": NUMBERS}, "heads": {"liked": LIKED, "stars": STARS}}
GROUP = {
    "kind": "late_fusion",
    "members": {"text": MEMBERS["text"], "near": ESTIMATORS["near"]},
    "combine": {"kind": "average"},
}
TAGGERS = {
    name: {"kind": "tower_model", "towers": {name: tower}, "heads": {"about": TAGS, "help": HELP}}
    for name, tower in (
        ("text", WORDS),
        ("table", {"kind": "table", "columns": ["age", "category"], "layers": [8], "dim": 8}),
    )
}


COUNTERS = {
    "text": {
        "kind": "tower_model",
        "towers": {"text": WORDS},
        "heads": {"help": {"kind": "count", "column": "helpful_count"}},
    },
    "trees": {
        "kind": "xgboost",
        "columns": ["age", "category"],
        "task": {"kind": "count", "column": "helpful_count"},
        "rounds": 8,
        "depth": 3,
    },
}


def read_by(train: Any, **tower: Any) -> dict[str, Any]:
    """A text tower over the small encoder of `the_encoder`, trained so far."""
    encoder = {"kind": "pretrained", "path": "${TOWERKIT_TEST_ENCODER}", "train": train, "max_tokens": 16}
    return {"kind": "text", "columns": ["title", "text"], "encoder": encoder, "dim": 8, **tower}


def seen_by(train: str) -> dict[str, Any]:
    """An image tower over the small encoder of `the_encoder`, trained so far."""
    encoder = {"kind": "pretrained", "path": "${TOWERKIT_TEST_PICTURES}", "train": train}
    return {"kind": "image", "entity": "product_id", "column": "image", "size": 16, "encoder": encoder, "dim": 8}


def cases() -> list[ModelContract]:
    """Every model kind, one line each."""
    products = shop_table("products", size="small").select(["product_id", "brand", "price"])
    pictures = shop_table("products", size="small").column("image")
    sounds = pa.chunked_array([(4 * shop_table("snacks", size="small")["sound"].to_pylist())[:80]], pa.binary())
    towers, heads = {"text": WORDS, "table": NUMBERS}, {"stars": STARS, "liked": LIKED}
    with_product = {"table": NUMBERS, "product": PRODUCT}
    stack, calibrated = {"kind": "stack", "folds": 2}, {"kind": "weighted", "calibrate": "temperature"}
    return [
        retrieval("two_tower_ids", ID, ID, update={"kind": "one_backprop", "beta": 0.9}, entities=False),
        retrieval(
            "two_tower_features", PROFILE, ATTRIBUTES, match="cosine", update={"kind": "two_backprop"}, entities=True
        ),
        retrieval(
            "two_tower_spectral", SPECTRAL, SPECTRAL, update={"kind": "two_backprop"}, entities=False, is_random=False
        ),
        retrieval("two_tower_spectral_start", WARM, WARM, update={"kind": "one_backprop"}, entities=True),
        retrieval("two_tower_graph", GRAPH, GRAPH, update={"kind": "two_backprop"}, entities=True),
        retrieval("two_tower_history", PROFILE_AND_MET, ATTRIBUTES, update={"kind": "two_backprop"}, entities=True),
        retrieval("two_tower_history_alone", {"kind": "history", "dim": 8}, ID, update={"kind": "ema"}, entities=False),
        retrieval("two_tower_id_history", ID_AND_MET, ID, update={"kind": "one_backprop", "beta": 0.9}, entities=False),
        *(
            retrieval(
                f"two_tower_sequence_{kind}", {**IN_ORDER, "encoder": {"kind": kind}}, ID, update=UPDATE, entities=False
            )
            for kind in ("attention", "convolution", "gru")
        ),
        retrieval("two_tower_shared_words", ASKED, SHOWN, update={"kind": "two_backprop"}, entities=True),
        prediction("tower_model", {"kind": "tower_model", "towers": towers, "heads": heads}),
        prediction(
            "tower_model_entity",
            {"kind": "tower_model", "towers": with_product, "heads": {"liked": LIKED}},
            {"product_id": products},
        ),
        prediction(
            "tower_model_tags_and_number",
            {
                "kind": "tower_model",
                "towers": {"text": WORDS, "product": PRODUCT},
                "heads": {"about": TAGS, "help": HELP, "liked": LIKED},
            },
            {"product_id": products},
        ),
        prediction(
            "tower_model_experts",
            {
                "kind": "tower_model",
                "towers": {"table": {**NUMBERS, "transformer": {"dim": 8, "heads": 2}}, "product": PRODUCT},
                "heads": heads,
                "backbone": {"kind": "ple"},
                "absent": 0.1,
            },
            {"product_id": products},
        ),
        prediction(
            "tower_model_count",
            {
                "kind": "tower_model",
                "towers": {"text": WORDS, "product": PRODUCT},
                "heads": {"help": {"kind": "count", "column": "helpful_count"}, "liked": WEIGHED},
                "backbone": {"kind": "tokens", "dim": 8, "heads": 2},
            },
            {"product_id": products},
        ),
        retrieval(
            "two_tower_attention",
            {**PROFILE, "backbone": {"kind": "attention", "dim": 8, "heads": 2}},
            {**ATTRIBUTES, "backbone": {"kind": "cross", "rank": 4, "dim": 8}, "absent": 0.2},
            update={"kind": "two_backprop"},
            entities=True,
        ),
        retrieval(
            "two_tower_vectors",
            PROFILE,
            {"towers": {"id": ID, "vector": VECTOR}},
            update={"kind": "two_backprop"},
            entities=True,
            more={"vector": made_vectors()},
        ),
        retrieval(
            "two_tower_pictures",
            PROFILE,
            {"towers": {"id": ID, "picture": PICTURE}},
            update={"kind": "two_backprop"},
            entities=True,
            more={"image": pictures},
        ),
        prediction(
            "tower_model_pictures",
            {
                "kind": "tower_model",
                "towers": {"table": NUMBERS, "picture": PICTURE_OF_PRODUCT},
                "heads": {"liked": LIKED},
            },
            {"product_id": products.append_column("image", pictures)},
        ),
        prediction(
            "tower_model_vectors",
            {
                "kind": "tower_model",
                "towers": {"table": NUMBERS, "vector": VECTOR_OF_PRODUCT},
                "heads": {"liked": LIKED},
            },
            {"product_id": products.append_column("vector", made_vectors())},
        ),
        retrieval(
            "two_tower_sounds",
            PROFILE,
            {"towers": {"id": ID, "sound": SOUND}},
            update={"kind": "two_backprop"},
            entities=True,
            more={"sound": sounds},
        ),
        prediction(
            "tower_model_sounds",
            {"kind": "tower_model", "towers": {"table": NUMBERS, "sound": SOUND_OF_PRODUCT}, "heads": {"liked": LIKED}},
            {"product_id": products.append_column("sound", sounds)},
        ),
        prediction(
            "tower_model_pretrained_pictures",
            {
                "kind": "tower_model",
                "towers": {"table": NUMBERS, "picture": seen_by("frozen")},
                "heads": {"liked": LIKED},
            },
            {"product_id": products.append_column("image", pictures)},
        ),
        prediction(
            "tower_model_trained_pictures",
            {
                "kind": "tower_model",
                "towers": {"table": NUMBERS, "picture": seen_by("full")},
                "heads": {"liked": LIKED},
            },
            {"product_id": products.append_column("image", pictures)},
        ),
        prediction("late_fusion_stack", {"kind": "late_fusion", "members": MEMBERS, "combine": stack}),
        search("rank_fusion_weighted", kind="weighted"),
        search("rank_fusion_reciprocal", kind="rrf"),
        search("rank_fusion_gate", kind="gate"),
        ranker("ranker", towers=BOTH, backbone={"kind": "cross", "layers": 1}, layers=[8]),
        ranker(
            "ranker_tasks", towers={**BOTH, "when": WHEN}, backbone={"kind": "mmoe"}, absent=0.1, heads={"stars": STARS}
        ),
        reranked("rank_fusion_rerank"),
        joint("joint"),
        prediction("late_fusion_count", {"kind": "late_fusion", "members": COUNTERS, "combine": stack}),
        pairs("rank_fusion_pairs"),
        prediction("late_fusion_average", {"kind": "late_fusion", "members": MEMBERS, "combine": {"kind": "average"}}),
        prediction(
            "late_fusion_nested",
            {"kind": "late_fusion", "members": {"group": GROUP, "trees": MEMBERS["trees"]}, "combine": calibrated},
        ),
        prediction(
            "late_fusion_votes",
            {"kind": "late_fusion", "members": {**MEMBERS, "stars": RATED}, "combine": {"kind": "vote"}},
        ),
        prediction("late_fusion_estimators", {"kind": "late_fusion", "members": ESTIMATORS, "combine": stack}),
        *(
            prediction(f"text_{name}", {"kind": "tower_model", "towers": {"text": tower}, "heads": {"liked": LIKED}})
            for name, tower in TEXTS.items()
        ),
        retrieval(
            "two_tower_convolution",
            {**SHARED, "columns": ["city"], "of": "candidate", "encoder": CONVOLUTION},
            {**SHARED, "columns": ["title"], "encoder": CONVOLUTION},
            update={"kind": "two_backprop"},
            entities=True,
        ),
        retrieval(
            "two_tower_pretrained",
            read_by("frozen", columns=["city"], of="candidate"),
            read_by("frozen", columns=["title"]),
            match="cosine",
            update={"kind": "two_backprop"},
            entities=True,
        ),
        retrieval(
            "two_tower_fine_tuned",
            read_by({"last": 1}, columns=["city"], of="candidate"),
            read_by({"last": 1}, columns=["title"]),
            match="cosine",
            update={"kind": "two_backprop"},
            entities=True,
        ),
        prediction("late_fusion_tags_and_number", {"kind": "late_fusion", "members": TAGGERS, "combine": stack}),
    ]


CONVOLUTION = {"kind": "convolution", "buckets": 512, "channels": 8}
TEXTS = {
    "pretrained": read_by("frozen"),
    "fine_tuned": read_by("full"),
    "low_rank": read_by({"lora": 2}),
    "convolution": {**WORDS, "encoder": {"kind": "convolution", "buckets": 512, "channels": 8}},
    "transformer": {**WORDS, "encoder": {"kind": "transformer", "buckets": 512, "channels": 8, "layers": 1}},
}
CASES = {case.name: case for case in cases()}


@pytest.fixture(autouse=True)
def the_encoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a case reads by a pretrained encoder: its folder, and shorter tables."""
    name = request.node.callspec.params.get("name", "") if hasattr(request.node, "callspec") else ""
    if name and "pretrained" in str(CASES[name].spec["model"]):
        is_image = "TOWERKIT_TEST_PICTURES" in str(CASES[name].spec["model"])
        fixture, variable = ("small_picture_encoder", "PICTURES") if is_image else ("small_encoder", "ENCODER")
        monkeypatch.setenv(f"TOWERKIT_TEST_{variable}", str(request.getfixturevalue(fixture)))


# Cousins of cases that are always tested: the path is the same, and what is their own has tests of its own.
COUSINS = {
    "two_tower_spectral_start", "two_tower_history_alone", "two_tower_id_history", "two_tower_sequence_convolution",
    "two_tower_sequence_gru", "tower_model_entity", "tower_model_count", "two_tower_vectors", "tower_model_vectors",
    "tower_model_sounds", "tower_model_pretrained_pictures", "rank_fusion_reciprocal", "rank_fusion_pairs", "ranker",
    "late_fusion_count", "late_fusion_average", "late_fusion_votes", "text_fine_tuned", "text_convolution",
    "two_tower_convolution", "two_tower_pretrained",
}  # fmt: skip
assert CASES.keys() >= COUSINS
SOONER_OR_LATER = [pytest.param(name, marks=[pytest.mark.long] if name in COUSINS else []) for name in CASES]


@pytest.mark.parametrize("name", SOONER_OR_LATER)
def test_contract(name: str, tmp_path: Path) -> None:
    """The whole path for one kind."""
    CASES[name].check(tmp_path)


def test_the_kit_sees_a_moved_number_another_key_and_a_lost_column() -> None:
    answer = pa.table({"item": ["a", "b"], "score": [0.5, 0.25]})
    require_same(answer, pa.table({"item": ["a", "b"], "score": [0.5, 0.25 + 1e-7]}), "the same")
    for other, message in (
        (pa.table({"item": ["a", "b"], "score": [0.5, 0.26]}), "the same: 'score' differs by 0.01"),
        (pa.table({"item": ["a", "c"], "score": [0.5, 0.25]}), "the same: 'item' differs"),
        (pa.table({"item": ["a", "b"]}), r"the same: \['item', 'score'\] and \['item'\]"),
        (answer.slice(1), "the same: 2 and 1 rows"),
    ):
        with pytest.raises(AssertionError, match=message):
            require_same(answer, other, "the same")


def test_the_kit_sees_global_state_that_moved() -> None:
    kept = random.getstate()
    with pytest.raises(AssertionError, match="it changed Python's random state$"), untouched_global_state():
        random.random()
    random.setstate(kept)
    with untouched_global_state():
        random.Random(3).random()


def test_the_kit_names_the_kind_and_the_broken_promise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose figures differ from one training to the next."""
    figures = iter(range(10))
    trained = contract.train_and_evaluate

    def unsteady(*arguments: Any) -> Any:
        outcome = trained(*arguments)
        outcome.evaluation.protocol["figure"] = next(figures)  # type: ignore[index]
        return outcome

    monkeypatch.setattr(contract, "train_and_evaluate", unsteady)
    with pytest.raises(AssertionError, match="^two_tower_ids: the same seed must give the same figures"):
        CASES["two_tower_ids"].check(tmp_path)
