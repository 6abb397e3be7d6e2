"""(c) Bayesian personalized ranking with two backpropagations: both tables move by gradient.

For each batch of pairs (u, i): one negative j that u has not met, loss ``-log sigmoid(e_u . e_i - e_u . e_j)`` with L2 on the
rows that were read, and a step of plain gradient descent over both tables.

Reference: Rendle et al., BPR, UAI 2009.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from reference.one_backprop import NegativeSampler, Pairs


class Bpr:
    """A vectorized loop: an epoch's order and negatives in a few calls, autograd, sparse gradients, ``torch.optim.SGD``.

    Args:
        pairs: What to learn from.
        dim: Width of the vectors.
        batch_size: Pairs per step.
        lr: Step size.
        decay: Weight of the squares of the rows that were read.
        sparse: Gradients of the touched rows alone; else of whole tables.
        seed: Of start, order and negatives.
    """

    def __init__(
        self,
        pairs: Pairs,
        *,
        dim: int = 64,
        batch_size: int = 1024,
        lr: float = 0.05,
        decay: float = 0.01,
        sparse: bool = True,
        seed: int = 0,
    ) -> None:
        self.batch_size, self.decay = batch_size, decay
        self.draw = torch.Generator().manual_seed(seed)
        self.pairs = torch.from_numpy(pairs.users), torch.from_numpy(pairs.items)
        starts = (torch.empty(rows, dim) for rows in (pairs.num_users, pairs.num_items))
        self.users, self.items = (
            nn.Embedding.from_pretrained(start.normal_(std=0.1, generator=self.draw), freeze=False, sparse=sparse)
            for start in starts
        )
        # The mean over a batch would make each pair's step lr / batch_size; the sum takes whole steps, as one by one does.
        self.optimizer = torch.optim.SGD([self.users.weight, self.items.weight], lr=lr)
        self.sampler = NegativeSampler(pairs, 1, self.draw)

    def epoch(self) -> float:
        """All pairs once; returns the mean loss."""
        order = torch.randperm(len(self.pairs[0]), generator=self.draw)
        user, positive = (column[order] for column in self.pairs)
        columns = (user, positive, self.sampler(user)[0])
        batches = zip(*(column.split(self.batch_size) for column in columns), strict=True)
        return sum(self.step(*batch) for batch in batches) / len(order)

    def step(self, user: Tensor, positive: Tensor, negative: Tensor) -> float:
        """One batch of ``[batch]`` codes; returns the sum of its losses."""
        query, own, other = self.users(user), self.items(positive), self.items(negative)  # [batch, dim]
        loss = -functional.logsigmoid((query * (own - other)).sum(dim=1)).sum()
        squares = query.square().sum() + own.square().sum() + other.square().sum()
        self.optimizer.zero_grad()
        (loss + 0.5 * self.decay * squares).backward()
        self.optimizer.step()
        return loss.item()
