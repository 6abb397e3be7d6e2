"""The menu of retrieval losses, and what each says of itself.

Invariants:
- the menu is the nine kinds; each builds from its kind alone and with its settings;
- what a loss reads, whom it compares with and whether it uses log q are as the table here says;
- each pair of loss and match that is refused is refused with its reason, the match received and the next step; no other is;
- settings without a meaning are refused.
"""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from towerkit.losses import (
    AnyRetrievalLossSpec,
    BceSpec,
    BilateralSoftmaxSpec,
    CclSpec,
    ContrastiveSpec,
    RetrievalLossSpec,
    SampledSoftmaxSpec,
    TripletSpec,
    bce,
    bilateral_softmax,
    ccl,
    contrastive,
    sampled_softmax,
    triplet,
)

MENU: TypeAdapter[RetrievalLossSpec] = TypeAdapter(AnyRetrievalLossSpec)
TABLE = {
    # kind: reads, negatives, corrects, matches that are refused
    "sampled_softmax": ("scores", "drawn", True, set()),
    "softmax": ("scores", "all", False, set()),
    "bilateral_softmax": ("scores", "drawn", True, {"dot", "euclidean"}),
    "bpr": ("scores", "drawn", False, set()),
    "triplet": ("scores", "drawn", False, set()),
    "bce": ("scores", "drawn", False, set()),
    "contrastive": ("scores", "drawn", False, {"dot", "euclidean"}),
    "ccl": ("scores", "drawn", False, {"dot", "euclidean"}),
    "directau": ("vectors", "none", False, {"dot", "euclidean"}),
}


def test_the_menu_is_the_nine_kinds() -> None:
    union = get_args(AnyRetrievalLossSpec)[0]
    assert [spec.model_fields["kind"].default for spec in get_args(union)] == list(TABLE)


@pytest.mark.parametrize("kind", TABLE)
def test_what_a_loss_says_of_itself(kind: str) -> None:
    spec = MENU.validate_python({"kind": kind})
    refused = {similarity for similarity in ("dot", "cosine", "euclidean") if spec.refusal(similarity)}
    assert (spec.reads, spec.negatives, spec.corrects, refused) == TABLE[kind]
    assert callable(spec.build())
    assert MENU.validate_json(spec.model_dump_json()) == spec
    assert {"reads", "negatives", "corrects"}.isdisjoint(spec.model_dump())


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (
            CclSpec(margin=0.9),
            "ccl pulls positives to a score of 1 and pushes negatives below its margin of 0.9; both are cosines.",
        ),
        (
            ContrastiveSpec(margin=0.2),
            "contrastive pulls positives to a score of 1 and pushes negatives below its margin of 0.2;",
        ),
        (
            MENU.validate_python({"kind": "directau"}),
            "directau spreads vectors of length one over the sphere; vectors of any",
        ),
        (BilateralSoftmaxSpec(), "bilateral_softmax leaves the positive out of its sum, so"),
    ],
)
def test_a_refusal_says_why_what_and_what_next(spec: RetrievalLossSpec, reason: str) -> None:
    for similarity in ("dot", "euclidean"):
        found = spec.refusal(similarity)
        assert found is not None and found.startswith(reason)
        assert found.endswith(f"The match is {similarity}. Set model.match.kind=cosine, or choose another loss.")


def test_a_spec_builds_the_loss_with_its_settings() -> None:
    positive, negative = torch.tensor([0.5]), torch.tensor([[0.9, 0.3]])
    for spec, expected in (
        (SampledSoftmaxSpec(temperature=0.2), sampled_softmax(positive, negative, temperature=0.2)),
        (
            BilateralSoftmaxSpec(temperature=0.2, ratio=1.3),
            bilateral_softmax(positive, negative, temperature=0.2, ratio=1.3),
        ),
        (TripletSpec(margin=0.7), triplet(positive, negative, margin=0.7)),
        (BceSpec(negative_weight=5), bce(positive, negative, negative_weight=5)),
        (ContrastiveSpec(margin=0.2), contrastive(positive, negative, margin=0.2)),
        (CclSpec(margin=0.2, negative_weight=5), ccl(positive, negative, margin=0.2, negative_weight=5)),
    ):
        assert torch.equal(spec.build()(positive, negative, log_q=None, collision=None), expected)


@pytest.mark.parametrize(
    "given",
    [
        {"kind": "ccl", "margin": 1.0},  # no cosine lies above it: nothing would be pushed
        {"kind": "ccl", "negative_weight": 0.0},
        {"kind": "contrastive", "margin": -1.5},
        {"kind": "triplet", "margin": 0.0},
        {"kind": "bce", "negative_weight": -1},
        {"kind": "bilateral_softmax", "ratio": 0.0},
        {"kind": "directau", "gamma": 0.0},
        {"kind": "softmax", "temperature": 0.0},
        {"kind": "bpr", "temperature": 1.0},
    ],
)
def test_settings_without_a_meaning_are_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        MENU.validate_python(given)
