"""Models that rank by one training: two-towers, in memory or from a log, rankers of pairs, several retrievals at once."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from towerkit.core.errors import SpecError
from towerkit.data.dataset import Dataset
from towerkit.data.stream.log import Log
from towerkit.ensembles.members import pair_scorer
from towerkit.features.streamed import let_go_of_rows
from towerkit.matching.updates import OneBackpropSpec
from towerkit.measurable import held_out_part
from towerkit.measured import joint_beside_baselines, pairs_beside_baselines, ranked_beside_baselines
from towerkit.models.answer import Retriever, retriever_of
from towerkit.models.joint import JointSpec, for_candidate, query_of
from towerkit.models.joint_retriever import JointRetriever
from towerkit.models.ranker import RankerSpec
from towerkit.models.two_tower import TwoTowerSpec
from towerkit.outcomes.asked import Asked, Outcome
from towerkit.outcomes.recipes import log_recipe_of, recipe_of
from towerkit.training.fit import Trained, fit_recipe
from towerkit.training.recipes import pairs_matrix


def retrieval(model: TwoTowerSpec, dataset: Dataset, asked: Asked) -> Outcome:
    """A two-tower over tables in memory."""
    trained = _trained(dataset, asked)
    retriever = _retriever(model, dataset, asked, trained, _seen(dataset, asked, trained, model.entities(dataset)))
    evaluation, baselines = ranked_beside_baselines(retriever, asked.spec, dataset, asked.learned(dataset))
    return Outcome(retriever, evaluation, baselines, trained.history)


def retrieval_of_log(model: TwoTowerSpec, log: Log, asked: Asked) -> Outcome:
    """As :func:`retrieval`; the pairs stay on disk until they are measured against."""
    if asked.base is not None:
        raise SpecError(
            "A training that goes on from a Run takes new data in memory; remove data.examples.stream, or --from."
        )
    recipe = log_recipe_of(asked.spec, log)
    trained = fit_recipe(recipe, log, asked.spec.training, asked.progress, asked.checkpoints, asked.world)
    seen = trained.prepared.encoded.pairs
    assert seen is not None
    let_go_of_rows(trained.prepared.encoded)
    retriever = _retriever(model, log, asked, trained, seen)
    evaluation, baselines = ranked_beside_baselines(retriever, asked.spec, log, asked.learned(log))
    return Outcome(retriever, evaluation, baselines, trained.history)


def ranking_of_pairs(model: RankerSpec, dataset: Dataset, asked: Asked) -> Outcome:
    """A ranker, with the tasks beside its ranking."""
    trained = _trained(dataset, asked)
    scorer = pair_scorer(model, dataset, trained, _seen(dataset, asked, trained, model.entities(dataset)))
    demand, learned = model.demand(dataset), asked.learned(dataset)
    evaluation, baselines = pairs_beside_baselines(scorer, demand, asked.spec, dataset, learned)
    return Outcome(scorer, evaluation, baselines, trained.history)


def joint_retrieval(model: JointSpec, dataset: Dataset, asked: Asked) -> Outcome:
    """Several retrievals with one query side, each measured over its own candidates."""
    if asked.base is not None:
        raise SpecError("A joint model does not go on from a Run yet; train it without --from.")
    trained = _trained(dataset, asked)
    encoded, learned = trained.prepared.encoded, asked.learned(dataset)
    members = {}
    for name, two_tower in trained.model.two_towers.items():
        pair = query_of(dataset), name
        own = np.intersect1d(learned, held_out_part(for_candidate(dataset, name))[2].parts.train)
        members[name] = retriever_of(
            model.two_tower(name),
            encoded.encoder.only(pair),
            two_tower.eval(),
            encoded.catalogues,
            pairs_matrix(encoded, own, pair),
            queries_average_candidates=False,
            titles=_titles(dataset, pair),
        )
    retriever = JointRetriever(model, members)
    evaluation, baselines = joint_beside_baselines(retriever, asked.spec, dataset, learned)
    return Outcome(retriever, evaluation, baselines, trained.history)


def _trained(dataset: Dataset, asked: Asked) -> Trained:
    recipe = recipe_of(asked.spec, dataset, asked.base)
    return fit_recipe(recipe, dataset, asked.spec.training, asked.progress, asked.checkpoints, asked.world)


def _seen(dataset: Dataset, asked: Asked, trained: Trained, entities: tuple[str, str]) -> csr_array:
    """``[query rows, candidate rows]`` the pairs that were learned from, with those of the Run that training went on from."""
    encoded = trained.prepared.encoded
    seen = pairs_matrix(encoded, asked.learned(dataset), entities)
    return seen if asked.base is None else asked.base.with_seen(seen, encoded.catalogues, entities)


def _retriever(
    model: TwoTowerSpec, dataset: Dataset | Log, asked: Asked, trained: Trained, seen: csr_array
) -> Retriever:
    encoded, entities = trained.prepared.encoded, trained.prepared.entities
    assert entities is not None
    return retriever_of(
        model,
        encoded.encoder,
        trained.model,
        encoded.catalogues,
        seen,
        queries_average_candidates=isinstance(asked.spec.update, OneBackpropSpec),
        titles=_titles(dataset, entities),
        histories=encoded.histories.get(entities[0]),
    )


def _titles(dataset: Dataset | Log, entities: tuple[str, str]) -> dict[str, str | None]:
    """Entity -> the column of its table that is shown to people."""
    return {name: dataset.entities[name].title if name in dataset.entities else None for name in entities}
