"""What docs/results.md compares: data, settings and updates, with what is chosen on validation."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

Settings = dict[str, Any]
"""``key.of.part`` -> value, as ``--set`` takes them."""


@dataclass(frozen=True)
class Data:
    """A public data set under a published split."""

    name: str
    title: str
    spec: str
    """Beside this file."""
    epochs: int
    validate_every: int
    wide: bool
    """Try the wide grids, four settings for each variant; else the narrow ones, two."""
    baselines: tuple[str, ...]


@dataclass(frozen=True)
class Variant:
    """An update rule, and what of it is chosen on validation: every variant tries equally many settings."""

    name: str
    fixed: Settings
    wide: dict[str, list[Any]] = field(default_factory=dict)
    narrow: dict[str, list[Any]] = field(default_factory=dict)

    def trials(self, data: Data) -> list[Settings]:
        """Every combination of the grid."""
        grid = self.wide if data.wide else self.narrow
        values = itertools.product(*grid.values())
        return [{**self.fixed, **dict(zip(grid, combination, strict=True))} for combination in values]


ALL = ("popularity", "item_knn", "ials", "ease")
DATA = [
    Data("ml100k", "MovieLens-100K, reference split", "ml100k.yaml", 60, 2, wide=True, baselines=ALL),
    Data("ml1m", "MovieLens-1M, LightGCN-style split", "ml1m.yaml", 16, 2, wide=False, baselines=ALL),
    Data(
        "gowalla",
        "Gowalla, LightGCN split",
        "gowalla.yaml",
        12,
        4,
        wide=False,
        baselines=("popularity", "item_knn", "ease"),
    ),
]
LR, BETA = "training.optimizer.lr", "update.beta"
VARIANTS = [
    Variant(
        "two_backprop",
        {"update": {"kind": "two_backprop"}},
        wide={LR: [0.003, 0.006, 0.012, 0.024]},
        narrow={LR: [0.006, 0.02]},
    ),
    Variant(
        "one_backprop",
        {"update": {"kind": "one_backprop", "debias": True}},
        wide={LR: [0.006, 0.012], BETA: [0.9, 0.99]},
        narrow={LR: [0.012], BETA: [0.9, 0.98]},
    ),
    Variant(
        "one_backprop by epoch",
        {"update": {"kind": "one_backprop", "start": "mean_of_items", "refresh": "epoch"}},
        wide={LR: [0.006, 0.012], BETA: [0.9, 0.99]},
        narrow={LR: [0.012], BETA: [0.9, 0.98]},
    ),
]
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Example:
    """An example whose figures stand on the page as they are measured, beside its baselines."""

    name: str
    title: str
    spec: str
    """From the root of the repository."""
    model: str
    """What the page calls it."""
    metrics: tuple[str, ...]
    about: str
    """What the page says of it."""
    settings: Settings = field(default_factory=dict)


SEARCH = ("ndcg@10", "recall@100", "mrr@10")
EXAMPLES = [
    Example(
        "clothing_multitask",
        "Women's clothing reviews: stars and recommendation from text and table",
        "examples/clothing_multitask.yaml",
        "tower model",
        ("rating/f1_macro", "rating/mae", "recommended/auc", "recommended/log_loss"),
        "Stars from 1 to 5 (`rating`, ordered) and whether the product is recommended, from the words, the age and the "
        "helpful votes.",
    ),
    Example(
        "clothing_late",
        "Women's clothing reviews: late fusion of text and XGBoost",
        "examples/clothing_late.yaml",
        "late fusion",
        ("auc", "log_loss"),
        "A text model and XGBoost on the table (which has the stars), stacked on out-of-fold predictions; each member "
        "alone beside it.",
    ),
    Example(
        "ads_clicks",
        "Ads: will this person take this app, here and now?",
        "examples/ads_clicks.yaml",
        "tower model",
        ("auc", "average_precision", "log_loss", "brier"),
        "Frappe's log of apps in use, two of three rows drawn negatives (the validation file of a published split; its training "
        "file is not here): a tower for the person, one for the app, one for the moment, a cross network, a temperature from "
        "validation rows. "
        "Widths, step size and decay are those of forty trials on the validation rows of seed 0.",
    ),
    Example(
        "scifact",
        "SciFact: search among 5,183 abstracts",
        "examples/scifact_hybrid.yaml",
        "hybrid of the two members",
        SEARCH,
        "Train claims in a split of our own, by topic: no abstract that is right for a test claim is right for a training claim. "
        "The members are BM25 (words) and a text two-tower (vectors, the model of `examples/scifact_search.yaml`).",
    ),
    Example(
        "scifact_by_claim",
        "SciFact: the same, split by claim alone",
        "examples/scifact_hybrid.yaml",
        "hybrid of the two members",
        SEARCH,
        "Here only the claims are new. SciFact has many claims in pairs, a statement and its denial, about one abstract: a "
        "trained model gains from what it remembers of the abstract, BM25 does not. How well it searches stands above.",
        {"data.split.column": "query"},
    ),
]
