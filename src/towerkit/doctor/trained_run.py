"""Everything that doctor looks at in a trained Run; its data is not needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from towerkit.doctor.answers_of_run import answer_findings
from towerkit.doctor.finding import Finding
from towerkit.doctor.training_of_run import history_findings, measured_findings
from towerkit.doctor.vectors_of_run import vector_findings
from towerkit.ensembles.rank_fusion import RankFusion
from towerkit.models.answer import Retriever
from towerkit.models.joint_retriever import JointRetriever
from towerkit.models.pair_scorer import PairScorer

if TYPE_CHECKING:
    from towerkit.run import Run


def findings_of(run: Run) -> list[Finding]:
    """Look at a Run's answers, vectors, training and figures.

    Args:
        run: Opened, of any kind.

    Raises:
        RunError: If it is damaged.
    """
    model, found = run.model, []
    members = model.members if isinstance(model, JointRetriever) else {"": model}
    for name, each in members.items():
        where = f" of {name}" if name else ""
        if isinstance(each, Retriever | PairScorer | RankFusion):
            found += answer_findings(each, where)
        if isinstance(each, Retriever):
            found += vector_findings(each, where)
    found += history_findings(run.path)
    if isinstance(model, JointRetriever):
        for name in model.members:
            one = run.ranking(name)
            found += measured_findings(run.path, one.evaluation, one.baselines)
        return found
    return found + measured_findings(run.path, run.evaluation, run.baselines)
