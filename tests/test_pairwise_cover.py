"""Every loss, sort of negatives, update and match trains beside every other.

Invariants:
- the cover holds every well-posed pair of levels, and each of its choices is well posed;
- in each training all gradients are finite, and the ranking beats chance by the stated margin (long);
- a model whose scores are random does not (the control of that margin).
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from towerkit.evaluation.ranking import ranking_values
from towerkit.experiment import train_and_evaluate
from towerkit.models.answer import Retriever
from towerkit.testing.pairwise import (
    FACTORS,
    MARGIN,
    Chance,
    Choice,
    chance,
    cover,
    measure,
    pairs_of,
    shop,
    spec_of,
    spec_or_fail,
)
from towerkit.trained import ranking_task_of
from towerkit.training.loop import Silent

COVER = cover()


def test_the_cover_holds_every_well_posed_pair() -> None:
    covered = {pair for choice in COVER for pair in pairs_of(choice)}
    valid = [choice for choice in itertools.product(*FACTORS.values()) if spec_of(choice) is not None]
    assert covered == {pair for choice in valid for pair in pairs_of(choice)}
    assert {level for choice in COVER for level in choice} == {level for levels in FACTORS.values() for level in levels}
    assert len(COVER) < len(valid) / 5


def test_random_scores_stay_below_the_margin() -> None:
    model = train_and_evaluate(spec_or_fail(), shop(), Silent()).model
    assert isinstance(model, Retriever)
    keys = [shop().labelled(entity, shop().parts.test) for entity in ("user_id", "product_id")]
    task = ranking_task_of(model, *keys)
    size = len(model.query.keys) + 1, len(model.candidate.keys)
    found = [float(np.mean(ranking_values(Chance(*size, seed), task, [10])["ndcg@10"])) for seed in range(100, 110)]
    assert max(found) < MARGIN * chance()


@pytest.mark.long
@pytest.mark.parametrize("choice", COVER, ids="+".join)
def test_each_choice_trains_and_beats_chance(choice: Choice) -> None:
    found = measure(choice)
    assert found.finite
    assert found.ndcg > MARGIN * chance()
