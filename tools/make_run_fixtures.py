"""Train one small Run of each kind on the bundled shop, with questions and the answers given today, as fixtures of this format.

    python tools/make_run_fixtures.py [--out tests/fixtures/runs] [--only late_fusion_ranks]

Run it once for a new format version, before that version is released, and for a model that came after its format: it writes
``format-N/NAME/run`` beside ``format-N/NAME/answers.json`` and refuses to replace what is there. `tests/test_old_runs.py` then
holds every later version to these answers.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

import towerkit as tk
from towerkit.data.shop import shop_table
from towerkit.evaluation.result import Evaluation
from towerkit.run import Run
from towerkit.storage.hashes import write_json
from towerkit.storage.migrations import FORMAT_VERSION

OUT = Path(__file__).parents[1] / "tests" / "fixtures" / "runs"
NUM_PAIRS, NUM_REVIEWS = 360, 320
ID = {"kind": "id", "dim": 6}
BUYER = {
    "kind": "table",
    "columns": ["age", "city", {"column": "plan", "as": "hashed", "buckets": 16}],
    "layers": [],
    "dim": 6,
}
PRODUCT = {"kind": "table", "columns": ["category", {"column": "price", "as": "log"}], "layers": [4], "dim": 6}
TITLE = {"kind": "text", "columns": ["title"], "encoder": {"kind": "hashed_ngrams", "buckets": 32}, "dim": 6}
WORDS = {"kind": "text", "columns": ["title", "text"], "encoder": {"kind": "hashed_ngrams", "buckets": 48}, "dim": 4}
LIKED = {"kind": "binary", "column": "recommended"}
COLUMNS = [
    "helpful_count",
    {"column": "age", "as": "quantile", "buckets": 4},
    {"column": "tags", "as": "multi_hot"},
    {"column": "time", "as": "cyclic", "periods": ["week"]},
]
TREES = {"kind": "xgboost", "columns": ["age", "category", "helpful_count"], "task": LIKED, "rounds": 3, "depth": 2}


def _member(tower: Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": "tower_model", "towers": {"only": tower}, "heads": {"liked": LIKED}}


def _estimator(**keys: Any) -> dict[str, Any]:
    return {"kind": "sklearn", "estimator": keys, "columns": ["age", "category", "helpful_count"], "task": LIKED}


ESTIMATORS: Mapping[str, Mapping[str, Any]] = {
    "linear": {"kind": "logistic_regression"},
    "forest": {"kind": "random_forest", "n_estimators": 3, "max_depth": 3},
    "boosted": {"kind": "hist_gradient_boosting", "max_iter": 3, "max_leaf_nodes": 6},
    "near": {"kind": "knn"},
    "margin": {"kind": "svm"},
    "bayes": {"kind": "naive_bayes"},
}
MODELS: Mapping[str, Mapping[str, Any]] = {
    "two_tower": {
        "model": {
            "kind": "two_tower",
            "query": {"towers": {"id": ID, "buyer": BUYER}},
            "candidate": {"towers": {"id": ID, "product": PRODUCT, "title": TITLE}},
        },
        "update": {"kind": "one_backprop"},
    },
    "history": {
        "model": {
            "kind": "two_tower",
            "query": {"kind": "id_history", "dim": 6, "half_life_days": 30.0},
            "candidate": ID,
            "match": {"kind": "cosine"},
        }
    },
    "tower_model": {
        "model": {
            "kind": "tower_model",
            "towers": {
                "words": WORDS,
                "numbers": {"kind": "table", "columns": COLUMNS, "layers": [6], "dim": 4},
                "product": {"kind": "table", "entity": "product_id", "columns": ["brand", "price"], "dim": 4},
            },
            "backbone": {"kind": "gated"},
            "heads": {
                "liked": LIKED,
                "stars": {"kind": "ordinal", "column": "rating"},
                "sort": {"kind": "multiclass", "column": "category"},
            },
        }
    },
    "late_fusion": {
        "model": {
            "kind": "late_fusion",
            "members": {"words": _member(WORDS), "age": _member({"kind": "table", "columns": ["age"], "dim": 4})},
            "combine": {"kind": "average"},
        }
    },
    "late_fusion_trees": {
        "model": {
            "kind": "late_fusion",
            "members": {"words": _member(WORDS), "trees": TREES},
            "combine": {"kind": "stack", "folds": 2},
        }
    },
    "late_fusion_groups": {
        "model": {
            "kind": "late_fusion",
            "members": {
                "words": _member(WORDS),
                "group": {
                    "kind": "late_fusion",
                    "members": {name: _estimator(**keys) for name, keys in ESTIMATORS.items()},
                    "combine": {"kind": "vote", "votes": "soft"},
                },
            },
            "combine": {"kind": "weighted", "calibrate": "temperature"},
        }
    },
    "ranker": {
        "model": {
            "kind": "ranker",
            "towers": {
                "user": {**ID, "entity": "user_id"},
                "buyer": {**BUYER, "entity": "user_id"},
                "item": {**ID, "entity": "product_id"},
                "product": {**PRODUCT, "entity": "product_id"},
                "when": {"kind": "table", "columns": ["time"], "dim": 4},
            },
            "backbone": {"kind": "cross", "layers": 1, "dim": 8},
            "absent": 0.1,
            "layers": [4],
            "heads": {"pieces": {"kind": "regression", "column": "quantity"}},
        },
        "objective": {"loss": {"kind": "bpr"}},
        "evaluation": {"k": [5], "segments": ["user_id.plan"], "baselines": ["popularity"]},
    },
    "joint": {
        "model": {
            "kind": "joint",
            "query": {"towers": {"id": ID, "buyer": BUYER}},
            "candidates": {"product_id": {"towers": {"id": ID, "product": PRODUCT}}},
        },
        "evaluation": {"k": [5], "baselines": ["popularity"]},
    },
    "late_fusion_rerank": {
        "model": {
            "kind": "late_fusion",
            "members": {
                "vectors": {"kind": "two_tower", "query": {"towers": {"id": ID, "buyer": BUYER}}, "candidate": ID},
                "pairs": {
                    "kind": "ranker",
                    "towers": {"buyer": {**BUYER, "entity": "user_id"}, "item": {**ID, "entity": "product_id"}},
                },
            },
            "combine": {"kind": "rerank", "first": "vectors", "depth": 10},
        },
        "evaluation": {"k": [5], "baselines": ["popularity"]},
    },
    "late_fusion_ranks": {
        "model": {
            "kind": "late_fusion",
            "members": {
                "words": {"kind": "bm25", "query": ["wish"], "candidate": ["title", "category"], "prefix": 5},
                "vectors": {"kind": "two_tower", "query": {"towers": {"id": ID, "buyer": BUYER}}, "candidate": ID},
            },
            "combine": {"kind": "weighted"},
        },
        "evaluation": {"k": [5], "segments": ["user_id.plan"], "baselines": ["popularity"]},
    },
}
RANKING = ("two_tower", "history", "ranker", "joint", "late_fusion_ranks", "late_fusion_rerank")


def main() -> None:
    """Train and ask."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--only", nargs="+", choices=list(MODELS), default=list(MODELS))
    arguments = parser.parse_args()
    folder = arguments.out / f"format-{FORMAT_VERSION}"
    for name in arguments.only:
        run = train(MODELS[name], folder / name / "run", ranks=name in RANKING)
        questions = ranking_questions() if name in RANKING else prediction_questions()
        if name == "history":
            questions.append({"call": "recommend", "given": {"history": ["p0003", "p0017"], "k": 4}})
        answers = [{**question, "answer": answer_of(run, question)} for question in questions]
        stored = {"model": figures(run.evaluation)} | {name: figures(each) for name, each in run.baselines.items()}
        write_json(folder / name / "answers.json", {"kind": run.kind, "evaluation": stored, "questions": answers})
        size = sum(path.stat().st_size for path in (folder / name).rglob("*") if path.is_file())
        print(f"{folder / name}: {size / 1000:.0f} kB, {len(answers)} questions")


def train(spec: Mapping[str, Any], folder: Path, *, ranks: bool) -> Run:
    """A short training on a slice of the shop."""
    products = shop_table("products", size="small").select(["product_id", "title", "category", "brand", "price"])
    entities: dict[str, Any] = {"product_id": {"table": products, "key": "product_id", "title": "title"}}
    if ranks:
        entities["user_id"] = {"table": buyers(), "key": "user_id"}
        candidate = {} if "candidates" in spec["model"] else {"candidate": "product_id"}
        data = tk.read(pairs(), query="user_id", time="time", entities=entities, **candidate)
    else:
        data = tk.read(shop_table("reviews", size="small").slice(0, NUM_REVIEWS), entities=entities)
    training = {"epochs": 2, "batch_size": 128}
    return tk.fit({**spec, "training": training}, data, run=folder)


def buyers() -> pa.Table:
    """The first ones, each with a wish in words."""
    table = shop_table("users", size="small").slice(0, 60)
    sorts = sorted(set(shop_table("products", size="small").column("category").to_pylist()) - {None})
    wishes = [f"anything new for the {sorts[number % len(sorts)]}" for number in range(len(table))]
    return table.append_column("wish", pa.array(wishes))


def pairs() -> pa.Table:
    """The first purchases of the first buyers: a small Run knows few people."""
    table = shop_table("purchases", size="small")
    few = [key <= "u0060" for key in table.column("user_id").to_pylist()]
    return table.filter(pa.array(few)).slice(0, NUM_PAIRS)


def ranking_questions() -> list[dict[str, Any]]:
    """For known and unknown queries and candidates."""
    rows = {
        "user_id": ["u0002", "new", None],
        "age": [30, None, 55],
        "city": ["Caldmere", "?", None],
        "plan": ["free"] * 3,
        "wish": ["a kitchen knife", "garden", None],
    }
    product = {
        "product_id": ["p9999"],
        "title": ["Blue mug"],
        "category": ["kitchen"],
        "brand": [None],
        "price": [12.5],
    }
    two = {"user_id": ["u0001", "u0002", "u0003", "new"], "product_id": ["p0001", "p0044", "p9999", "p0080"]}
    return [
        {"call": "recommend", "given": {"query": "u0001", "k": 5}},
        {"call": "recommend", "given": {"query": "u0002", "k": 5, "exclude_seen": False}},
        {"call": "recommend", "given": {"query": "nobody", "k": 3}},
        {"call": "recommend", "given": {"rows": rows, "k": 3}},
        {"call": "queries_for", "given": {"candidates": product, "k": 3}},
        {"call": "predict", "given": {"rows": two}},
        {
            "call": "evaluate",
            "given": {"data": pairs().slice(NUM_PAIRS - 60).select(["user_id", "product_id"]).to_pydict()},
        },
    ]


def prediction_questions() -> list[dict[str, Any]]:
    """For whole rows, and for one of which little is known."""
    rows = shop_table("reviews", size="small").slice(600, 12)
    empty = {name: [None] for name in rows.column_names if name not in ("rating", "recommended")}
    return [
        {"call": "predict", "given": {"rows": _plain(rows)}},
        {"call": "predict", "given": {"rows": {**empty, "product_id": ["?"], "title": ["soft"], "age": [200]}}},
        {"call": "evaluate", "given": {"data": _plain(shop_table("reviews", size="small").slice(640, 40))}},
    ]


def _plain(table: pa.Table) -> dict[str, Any]:
    """Columns for JSON: times as texts, lists as they are."""
    found = table.to_pydict()
    return {**found, "time": [str(value) for value in found["time"]]}


def answer_of(run: Run, question: Mapping[str, Any]) -> Any:
    """What a Run answers, as plain data."""
    found = getattr(run, question["call"])(**question["given"])
    return figures(found) if question["call"] == "evaluate" else json.loads(json.dumps(found.to_pydict()))


def figures(evaluation: Evaluation) -> dict[str, float | None]:
    """Metric -> its value; None where it is undefined."""
    return {name: each["value"] for name, each in evaluation.as_dict()["metrics"].items()}


if __name__ == "__main__":
    main()
