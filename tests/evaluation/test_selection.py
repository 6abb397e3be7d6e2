"""Which validation figure decides.

Pinned: the default of rankings is NDCG at the largest k and of tasks the loss; a loss is better when lower, a ranking
figure when higher; a figure that is not measured is refused with the nearest that is.
"""

from __future__ import annotations

import pytest

from towerkit.core.errors import SpecError
from towerkit.evaluation.selection import ranking_selection, task_selection
from towerkit.evaluation.spec import EvaluationSpec
from towerkit.training.loop import Selection


def test_defaults() -> None:
    assert ranking_selection(EvaluationSpec(k=(5, 20, 10))) == Selection("ndcg@20", higher_is_better=True)
    assert task_selection(EvaluationSpec(), ["liked"]) == Selection("loss", higher_is_better=False)


def test_named_figures() -> None:
    assert ranking_selection(EvaluationSpec(k=(5,), select_by="recall@5")) == Selection(
        "recall@5", higher_is_better=True
    )
    chosen = task_selection(EvaluationSpec(select_by="liked/loss"), ["liked", "stars"])
    assert chosen == Selection("liked/loss", higher_is_better=False)


def test_a_figure_that_is_not_measured() -> None:
    with pytest.raises(
        SpecError, match=r"evaluation\.select_by: 'ndcg@7' is not measured on validation; did you mean 'ndcg@5'"
    ):
        ranking_selection(EvaluationSpec(k=(5, 10), select_by="ndcg@7"))
    with pytest.raises(
        SpecError, match=r"'likd/loss' .* did you mean 'liked/loss'\? Measured are 'liked/loss', 'loss'\."
    ):
        task_selection(EvaluationSpec(select_by="likd/loss"), ["liked"])
