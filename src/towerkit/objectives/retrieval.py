"""The retrieval objective: a positive against the candidates that the negatives put into the pool."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, get_args

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from towerkit.core.nesting import below
from towerkit.core.spec import Spec
from towerkit.data.batch import Batch, Block, Shares, spread
from towerkit.losses import AnyRetrievalLossSpec, SampledSoftmaxSpec
from towerkit.matching.negatives import AllCandidates, AnyNegativesSpec, Material, Negatives, UniformSpec
from towerkit.matching.similarity import Match
from towerkit.matching.updates import Update
from towerkit.models.two_tower import TwoTower
from towerkit.objectives.base import Objective
from towerkit.objectives.distillation import Distillation
from towerkit.objectives.synergy import Synergy, SynergySpec


class Sampler(Protocol):
    """Where the pool of a batch comes from; :class:`Negatives` is one."""

    @property
    def remembers(self) -> bool:
        """Whether it keeps what it is told of the positives."""

    def remember(self, vectors: Tensor) -> None:
        """Told the positives' vectors after a step."""

    def state(self) -> dict[str, Tensor]:
        """What a resumed training needs."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """The inverse of :meth:`state`."""


@dataclass(frozen=True)
class Scores:
    """Every score of a batch that a loss compares."""

    positive: Tensor
    """``[batch]``."""
    negative: Tensor
    """``[batch, n]``."""
    log_q: Tensor | None
    """``[batch, n]`` or ``[1, n]``."""
    collision: Tensor | None
    """``[batch, n]``."""


class ComparingObjective(Objective):
    """Compares positives with the candidates of a pool, and tells how many of these effectively count.

    Args:
        loss: Scores of positives and negatives, or vectors, to one loss per row.
        negatives: What fills the pool; None where nothing does.
    """

    def __init__(self, loss: Callable[..., Tensor], negatives: Sampler | None = None) -> None:
        self.loss, self.negatives = loss, negatives
        self._effective = _Effective()

    def compared(self, scores: Scores) -> Tensor:
        """``[batch]`` losses."""
        if scores.negative.requires_grad:
            scores.negative.register_hook(partial(self._effective.add, scores.collision))
        return self.loss(scores.positive, scores.negative, log_q=scores.log_q, collision=scores.collision)

    def saw_negatives(self, counted: float, effective: float, rows: float) -> None:
        """Told by an engine that does not call this objective what the pulls of its steps add up to; see :meth:`report`."""
        self._effective.include(counted, effective, int(rows))

    def parameters(self) -> list[nn.Parameter]:
        """A learned temperature, where there is one."""
        return list(self.loss.parameters()) if isinstance(self.loss, nn.Module) else []

    def report(self) -> dict[str, float]:
        """How many negatives counted per positive, how many effectively, and the learned temperature."""
        found = self._effective.report()
        temperature = getattr(self.loss, "temperature", None)
        if isinstance(temperature, Tensor):
            found["temperature"] = float(temperature.detach())
        return found

    def state(self) -> dict[str, Tensor]:
        """The negatives' memory, what the loss has learned, and the figures of the epoch so far."""
        found = {} if self.negatives is None else {f"negatives.{k}": t for k, t in self.negatives.state().items()}
        if isinstance(self.loss, nn.Module):
            found |= {f"loss.{name}": tensor.detach() for name, tensor in self.loss.state_dict().items()}
        return found | {"effective": self._effective.state()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take them back."""
        if self.negatives is not None:
            self.negatives.restore(below("negatives", state))
        if isinstance(self.loss, nn.Module):
            self.loss.load_state_dict(below("loss", state))
        self._effective.restore(state["effective"])


class RetrievalObjective(ComparingObjective):
    """Owns match and loss; the update decides what the loss may see.

    Args:
        loss: Scores of positives and negatives, or vectors, to one loss per row.
        update: Decides what is detached.
        negatives: Told the positives' vectors after each step; None where nothing remembers them.
        reads_vectors: The loss reads vectors and no negatives.
        distillation: A trained model's ranking, learned beside; its term is called ``distill``.
        synergy: Towers that are told of the other side; its term is called ``synergy``.
    """

    def __init__(
        self,
        loss: Callable[..., Tensor],
        update: Update,
        negatives: Sampler | None = None,
        *,
        reads_vectors: bool = False,
        distillation: Distillation | None = None,
        synergy: Synergy | None = None,
    ) -> None:
        super().__init__(loss, negatives)
        self.update, self.reads_vectors, self.distillation = update, reads_vectors, distillation
        self.synergy = synergy
        self._positives: Tensor | None = None
        self._shares: Shares | None = None

    def __call__(self, model: TwoTower, batch: Batch) -> dict[str, Tensor]:
        """The mean loss of the batch, under the name ``retrieval``; several views of the update add up."""
        terms, taught, encoded = [], [], model(batch)
        for query, candidate in self.update.views(model, batch, *encoded):
            distinct = model.match.prepare(query)  # [rows, dim]
            queries = spread(distinct, batch.index[model.query_entity])  # [batch, dim]
            candidates = model.match.prepare(candidate)  # [rows, dim]
            positives = spread(candidates, batch.index[model.candidate_entity])  # [batch, dim]
            self._positives, self._shares = positives.detach(), batch.shares
            losses = self._losses(model, batch, queries, candidates, positives)
            terms.append(weighted_mean(losses, batch.weights))
            if self.distillation is not None:
                taught.append(weighted_mean(self.distillation(model, batch, distinct, candidates), batch.weights))
        found = {"retrieval": torch.stack(terms).sum()}
        if taught:
            found["distill"] = torch.stack(taught).sum()
        if self.synergy is not None:
            found["synergy"] = weighted_mean(self.synergy(model, batch, *encoded), batch.weights)
        return found

    def _losses(self, model: TwoTower, batch: Batch, queries: Tensor, candidates: Tensor, positives: Tensor) -> Tensor:
        if self.reads_vectors:
            return self.loss(queries, positives)
        pool = batch.pool.get(model.candidate_entity, ())
        return self.compared(scores_of(model.match, queries, candidates, positives, pool))

    def weights(self, model: TwoTower, batch: Batch) -> dict[str, float | None]:
        """What the rows of a batch weigh together."""
        return {"retrieval": float(len(batch) if batch.weights is None else batch.weights.sum())}

    def after_step(self) -> None:
        """Let the negatives remember the positives."""
        if self.negatives is None or self._positives is None:
            return
        positives, shares = self._positives, self._shares
        if shares is not None and self.negatives.remembers:
            positives = shares.in_order(self.world.all(positives[: shares.sizes[shares.rank]], shares.sizes))
        self.negatives.remember(positives)


class _Effective:
    """How many negatives count, and how many effectively: ``(Σ g)² / Σ g²`` of the pull ``g`` that the loss gives each.

    A softmax at a small temperature may be handed a thousand negatives and push only three away. The first rows of each
    batch stand for all: looking at every gradient would cost a fifth of the step.
    """

    ROWS = 64

    def __init__(self) -> None:
        self.counted, self.effective, self.rows = 0.0, 0.0, 0

    def add(self, collision: Tensor | None, gradient: Tensor) -> None:
        """A hook on the negative scores: ``[batch, n]`` gradients of the loss."""
        pull = gradient[: self.ROWS].detach().double().abs()  # squares of small gradients underflow in float32
        rows, drawn = pull.shape
        share = pull.sum(dim=1).square() / pull.square().sum(dim=1).clamp(min=1e-300)
        counted = float(rows * drawn if collision is None else (~collision[: self.ROWS]).sum())
        self.include(counted, float(share.sum()), rows)

    def include(self, counted: float, effective: float, rows: int) -> None:
        """Add to the sums since the last report."""
        self.counted, self.effective, self.rows = self.counted + counted, self.effective + effective, self.rows + rows

    def state(self) -> Tensor:
        """The sums since the last report."""
        return torch.tensor([self.counted, self.effective, self.rows], dtype=torch.float64)

    def restore(self, state: Tensor) -> None:
        """The inverse of :meth:`state`."""
        self.counted, self.effective, self.rows = float(state[0]), float(state[1]), int(state[2])

    def report(self) -> dict[str, float]:
        """Means per positive since the last report."""
        if not self.rows:
            return {}
        found = {"negatives": self.counted / self.rows, "effective_negatives": self.effective / self.rows}
        self.counted, self.effective, self.rows = 0.0, 0.0, 0
        return found


def scores_of(match: Match, queries: Tensor, candidates: Tensor, positives: Tensor, pool: Sequence[Block]) -> Scores:
    """The scores of a batch: its positives, and the blocks of its pool side by side.

    Args:
        match: The similarity.
        queries: ``[batch, dim]`` prepared vectors.
        candidates: ``[rows, dim]`` prepared vectors of the batch's distinct candidates.
        positives: ``[batch, dim]`` each query's own candidate.
        pool: What the negatives brought.
    """
    drawn = [_block_scores(match, queries, candidates, block) for block in pool]
    return beside(match.pairs(queries, positives), drawn, pool)


def beside(positive: Tensor, drawn: Sequence[Tensor], pool: Sequence[Block]) -> Scores:
    """The scores of a batch, block by block: of each, those that count.

    Args:
        positive: ``[batch]``.
        drawn: Of each block ``[batch, n]``.
        pool: The blocks.
    """
    parts = [_kept(scores, block) for scores, block in zip(drawn, pool, strict=True)]
    negative = torch.cat([part.negative for part in parts], dim=1) if parts else positive.new_zeros(len(positive), 0)
    return Scores(
        positive,
        negative,
        _beside([part.log_q for part in parts], [part.negative for part in parts], 0.0),
        _beside([part.collision for part in parts], [part.negative for part in parts], False),
    )


def _block_scores(match: Match, queries: Tensor, candidates: Tensor, block: Block) -> Tensor:
    """``[batch, n]``."""
    if block.vectors is not None:
        return match.every(queries, block.vectors)
    assert block.index is not None
    if block.index.dim() == 2:
        return match.drawn(queries, candidates, block.index)
    return match.every(queries, spread(candidates, block.index))


def _kept(scores: Tensor, block: Block) -> Scores:
    """The block's scores, or the hardest of them where it keeps only so many."""
    log_q = None if block.log_q is None else block.log_q.expand(len(scores), -1)
    if block.keep is None or block.keep >= scores.shape[1]:
        return Scores(scores, scores, log_q, block.collision)
    masked = scores.detach() if block.collision is None else scores.detach().masked_fill(block.collision, -torch.inf)
    chosen = masked.topk(block.keep, dim=1).indices  # [batch, keep]
    collision = None if block.collision is None else block.collision.gather(1, chosen)
    return Scores(scores, scores.gather(1, chosen), None if log_q is None else log_q.gather(1, chosen), collision)


def _beside(parts: Sequence[Tensor | None], shapes: Sequence[Tensor], fill: float | bool) -> Tensor | None:
    """The parts side by side, ``fill`` where a block has none; None where no block has any."""
    if all(part is None for part in parts):
        return None
    dtype = torch.bool if isinstance(fill, bool) else shapes[0].dtype
    filled = [
        torch.full_like(shape, fill, dtype=dtype) if part is None else part
        for part, shape in zip(parts, shapes, strict=True)
    ]
    return torch.cat(filled, dim=1)


def weighted_mean(losses: Tensor, weights: Tensor | None) -> Tensor:
    """The mean over rows, or the weighted mean; zero when all weights are zero.

    Args:
        losses: ``[rows]``.
        weights: ``[rows]`` at least 0, or None for equal weights.
    """
    if weights is None:
        return losses.mean()
    return (losses * weights).sum() / weights.sum().clamp(min=1e-12)


class RetrievalObjectiveSpec(Spec):
    """A loss, and the negatives it compares with."""

    loss: AnyRetrievalLossSpec = SampledSoftmaxSpec()
    negatives: tuple[AnyNegativesSpec, ...] = Field((UniformSpec(),), validate_default=False)
    """Several make a mixture; none for a loss that draws none."""
    log_q: bool | None = None
    """Subtract the logarithm of how often the mixture draws a candidate; by default where that is known and uneven."""
    mask_positives: bool = True
    """A known positive of the query is no negative when another row, the queue or a shared draw brings it in."""
    synergy: SynergySpec | None = None
    """Of a two_tower: towers that are told of the other side."""

    @model_validator(mode="before")
    @classmethod
    def _no_negatives_where_none_are_drawn(cls, data: Any) -> Any:
        if isinstance(data, dict) and "negatives" not in data and _draws(data.get("loss")) != "drawn":
            return {**data, "negatives": ()}
        return data

    @model_validator(mode="after")
    def _loss_and_negatives_fit(self) -> RetrievalObjectiveSpec:
        kinds = ", ".join(negatives.kind for negatives in self.negatives)
        if self.loss.negatives == "drawn" and not self.negatives:
            raise ValueError(
                f"the loss {self.loss.kind} compares with drawn negatives; received none. Add negatives: [{{kind: uniform}}]."
            )
        if self.loss.negatives == "all" and self.negatives:
            raise ValueError(
                f"the loss {self.loss.kind} scores the whole catalogue, so there is nothing to draw; received negatives "
                f"{kinds}. Remove them (--set objective.negatives=[]), or use loss: {{kind: sampled_softmax}}."
            )
        if self.loss.negatives == "none" and self.negatives:
            raise ValueError(
                f"the loss {self.loss.kind} spreads the vectors of the batch apart in place of negatives; received negatives "
                f"{kinds}. Remove them (--set objective.negatives=[])."
            )
        if self.log_q and not self.loss.corrects:
            raise ValueError(
                f"log_q: true corrects a sum over drawn negatives, and the loss {self.loss.kind} has none. Remove log_q, or use "
                "loss: {kind: sampled_softmax}."
            )
        if self.log_q and any(negatives.kind == "hard" for negatives in self.negatives):
            raise ValueError(
                "log_q: true needs to know how likely each negative is, and which ones are hard depends on the model; received "
                f"negatives {kinds}. Remove log_q or the hard negatives."
            )
        return self

    def sampler(self, material: Material) -> Negatives | AllCandidates | None:
        """What fills the pool of each batch; None where the loss needs nothing.

        Raises:
            DataError: If the catalogue is too small for the negatives.
        """
        if self.loss.negatives == "none":
            return None
        if self.loss.negatives == "all":
            return AllCandidates(material.num_candidates, material.known, mask_known=self.mask_positives)
        return Negatives(
            [negatives.build(material.at(place)) for place, negatives in enumerate(self.negatives)],
            material.known,
            mask_known=self.mask_positives,
            correct=self.log_q is not False and self.loss.corrects,
        )

    def build(
        self,
        update: Update,
        sampler: Negatives | AllCandidates | None,
        teacher: Callable[[float], Distillation] | None = None,
        synergy: Synergy | None = None,
    ) -> RetrievalObjective:
        """The objective.

        Args:
            update: Decides what is detached.
            sampler: Fills the pool.
            teacher: The temperature of the loss -> what is learned beside it.
            synergy: Who is told of the other side.
        """
        reads_vectors = self.loss.reads == "vectors"
        taught = None if teacher is None else teacher(float(getattr(self.loss, "temperature", 1.0)))
        return RetrievalObjective(
            self.loss.build(), update, sampler, reads_vectors=reads_vectors, distillation=taught, synergy=synergy
        )


def _draws(loss: Any) -> str:
    """Whether a loss, in any form that a spec accepts, draws negatives."""
    kind = loss.get("kind") if isinstance(loss, dict) else getattr(loss, "kind", None)
    menu = {spec.model_fields["kind"].default: spec for spec in get_args(get_args(AnyRetrievalLossSpec)[0])}
    return menu[kind].negatives if kind in menu else "drawn"
