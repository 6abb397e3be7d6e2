"""One-backprop on two tables of ids: the obvious way, and as vectorized as PyTorch allows.

The semantics of each, for each batch of pairs (u, i) of a shuffled epoch, the last short batch dropped:

1. N negatives per pair, uniform over what the user has not met, all different;
2. loss ``-log softmax(e_u . e)[i]`` over the positive and its negatives, averaged; user vectors are constants;
3. Adam with coupled weight decay moves the items, all rows of the table;
4. ``e_u <- beta e_u + (1 - beta) e_i`` with the new item vector; of a user's several rows in a batch, one is kept.

Reference: Chen and Wang, One Backpropagation in Two Tower Recommendation Models, arXiv 2403.18227.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Settings:
    """Those of the paper for MovieLens-100K."""

    dim: int = 32
    negatives: int = 5
    batch_size: int = 1024
    beta: float = 0.99
    lr: float = 5e-4
    weight_decay: float = 1e-5


@dataclass(frozen=True)
class Pairs:
    """Training pairs, as codes from 0."""

    users: Ints
    items: Ints
    num_users: int
    num_items: int


class SampledPairs(Dataset[tuple[int, int, list[int]]]):
    """A pair and its negatives, drawn one by one until they are new: what a data loader asks for, row by row."""

    def __init__(self, pairs: Pairs, negatives: int, draw: np.random.Generator) -> None:
        self.pairs, self.negatives, self.draw = pairs, negatives, draw
        self.met: list[set[int]] = [set() for _ in range(pairs.num_users)]
        for user, item in zip(pairs.users.tolist(), pairs.items.tolist(), strict=True):
            self.met[user].add(item)

    def __len__(self) -> int:
        return len(self.pairs.users)

    def __getitem__(self, place: int) -> tuple[int, int, list[int]]:
        user, drawn = int(self.pairs.users[place]), []
        while len(drawn) < self.negatives:
            item = int(self.draw.integers(self.pairs.num_items))
            if item not in self.met[user] and item not in drawn:
                drawn.append(item)
        return user, int(self.pairs.items[place]), drawn


class ByHand:
    """(a) The obvious way: a data loader that samples pair by pair, two embeddings, autograd, ``torch.optim.Adam``."""

    def __init__(self, pairs: Pairs, settings: Settings, seed: int = 0) -> None:
        self.settings = settings
        self.loader_draw = torch.Generator().manual_seed(seed)
        starts = (torch.empty(rows, settings.dim) for rows in (pairs.num_users, pairs.num_items))
        self.users, self.items = (
            nn.Embedding.from_pretrained(nn.init.xavier_normal_(start, generator=self.loader_draw), freeze=False)
            for start in starts
        )
        self.optimizer = torch.optim.Adam(self.items.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
        self.loader = DataLoader(
            SampledPairs(pairs, settings.negatives, np.random.default_rng(seed)),
            batch_size=settings.batch_size,
            shuffle=True,
            drop_last=True,
            collate_fn=_collate,
            generator=self.loader_draw,
        )

    def epoch(self) -> float:
        """All full batches; returns the mean loss."""
        losses = [self.step(*batch) for batch in self.loader]
        return sum(losses) / max(1, len(losses))

    def step(self, user: Tensor, positive: Tensor, negatives: Tensor) -> float:
        """One batch: ``[batch]``, ``[batch]``, ``[batch, N]`` codes."""
        query = self.users(user).detach()
        own = (query * self.items(positive)).sum(dim=1)  # [batch]
        other = (query[:, None, :] * self.items(negatives)).sum(dim=2)  # [batch, N]
        loss = -torch.log(torch.exp(own) / (torch.exp(own) + torch.exp(other).sum(dim=1))).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            beta = self.settings.beta
            self.users.weight[user] = beta * self.users.weight[user] + (1.0 - beta) * self.items.weight[positive]
        return loss.item()


def _collate(rows: list[tuple[int, int, list[int]]]) -> tuple[Tensor, Tensor, Tensor]:
    users, items, negatives = zip(*rows, strict=True)
    return torch.tensor(users), torch.tensor(items), torch.tensor(negatives)


class NegativeSampler:
    """Uniform negatives for many pairs at a time: draw all, look all up among the known pairs, draw again what is refused.

    A pair is the number ``user * num_items + item``. Where a table with a bit for every such number is small, it answers;
    elsewhere a binary search over the sorted pairs, which is ten times slower on MovieLens-100K.
    """

    def __init__(self, pairs: Pairs, negatives: int, draw: torch.Generator, *, largest_table: int = 1 << 27) -> None:
        self.num_items, self.negatives, self.draw = pairs.num_items, negatives, draw
        self.known = torch.from_numpy(np.unique(pairs.users * pairs.num_items + pairs.items))
        cells = pairs.num_users * pairs.num_items
        self.table = torch.zeros(cells, dtype=torch.bool) if cells <= largest_table else None
        if self.table is not None:
            self.table[self.known] = True

    def __call__(self, users: Tensor) -> Tensor:
        """``[N, pairs]`` items that differ within a column and that the user of the column has not met."""
        drawn = self._any(self.negatives, len(users))
        refused = self._refused(users, drawn)
        open_columns = refused.any(dim=0).nonzero()[:, 0]
        while len(open_columns):  # a few hundredths of the columns, then a few of those
            part, again = drawn[:, open_columns], refused[:, open_columns]
            part = torch.where(again, self._any(*part.shape), part)
            drawn[:, open_columns] = part
            refused[:, open_columns] = self._refused(users[open_columns], part)
            open_columns = open_columns[refused[:, open_columns].any(dim=0)]
        return drawn

    def _any(self, rows: int, columns: int) -> Tensor:
        return torch.randint(self.num_items, (rows, columns), generator=self.draw)

    def _refused(self, users: Tensor, drawn: Tensor) -> Tensor:
        """Known pairs, and the later one of two equal items of a column."""
        refused = self._knows((users * self.num_items + drawn).view(-1)).view(drawn.shape)
        for later in range(1, self.negatives):
            for earlier in range(later):
                refused[later] |= drawn[earlier] == drawn[later]
        return refused

    def _knows(self, pair: Tensor) -> Tensor:
        if self.table is not None:
            return self.table.index_select(0, pair)
        place = torch.searchsorted(self.known, pair).clamp_(max=len(self.known) - 1)
        return self.known[place] == pair


class Vectorized:
    """(b) The same arithmetic as well as PyTorch allows: an epoch's order and negatives in a few calls, gradients in closed
    form, one ``index_add_`` into the item gradient, fused Adam.

    Candidates lie as ``[1 + N, batch]``: a softmax over the first axis runs along contiguous memory, fifteen times as fast
    as one over rows of six. Slower here: ``bmm`` or ``einsum`` for the scores, sparse products or ``embedding_bag`` for the
    gradient, sparse gradients with ``SparseAdam`` (which is also another update: touched rows only).
    """

    def __init__(self, pairs: Pairs, settings: Settings, seed: int = 0) -> None:
        self.settings = settings
        self.draw = torch.Generator().manual_seed(seed)
        self.pairs = torch.from_numpy(pairs.users), torch.from_numpy(pairs.items)
        self.users = nn.init.xavier_normal_(torch.empty(pairs.num_users, settings.dim), generator=self.draw)
        items = nn.init.xavier_normal_(torch.empty(pairs.num_items, settings.dim), generator=self.draw)
        self.items = nn.Parameter(items)
        self.items.grad = torch.zeros_like(items)
        self.optimizer = torch.optim.Adam([self.items], lr=settings.lr, weight_decay=settings.weight_decay, fused=True)
        self.sampler = NegativeSampler(pairs, settings.negatives, self.draw)

    def epoch(self) -> float:
        """All full batches; returns the mean loss."""
        size, width = self.settings.batch_size, 1 + self.settings.negatives
        order = torch.randperm(len(self.pairs[0]), generator=self.draw)
        order = order[: len(order) // size * size]
        user, positive = (column[order] for column in self.pairs)
        shown = torch.cat([positive[None], self.sampler(user)])  # [1 + N, pairs]
        batches = shown.view(width, -1, size).transpose(0, 1).contiguous()  # [steps, 1 + N, batch]
        losses = [self._step(*batch) for batch in zip(user.view(-1, size), batches, strict=True)]
        return torch.stack(losses).mean().item() if losses else 0.0

    def step(self, user: Tensor, positive: Tensor, negatives: Tensor) -> float:
        """One batch: ``[batch]``, ``[batch]``, ``[batch, N]`` codes."""
        return self._step(user, torch.cat([positive[None], negatives.T])).item()

    def _step(self, user: Tensor, shown: Tensor) -> Tensor:
        query = self.users.index_select(0, user)  # [batch, dim]; a third of the time of self.users[user]
        loss = self._gradient(query, shown)
        self.optimizer.step()
        with torch.no_grad():
            new = self.items.index_select(0, shown[0])
            self.users.index_copy_(0, user, torch.lerp(new, query, self.settings.beta))
        return loss

    @torch.no_grad()
    def _gradient(self, query: Tensor, shown: Tensor) -> Tensor:
        """Set the gradient of the items; returns the loss."""
        items = functional.embedding(shown, self.items)  # [1 + N, batch, dim]
        scores = torch.linalg.vecdot(items, query)  # [1 + N, batch]
        log_share = torch.log_softmax(scores, dim=0)
        share = log_share.exp()
        share[0] -= 1.0  # times the batch size: d loss / d score
        moved = (share / len(query))[:, :, None] * query
        assert self.items.grad is not None
        self.items.grad.zero_().index_add_(0, shown.view(-1), moved.view(-1, query.shape[1]))
        return -log_share[0].mean()


class VectorizedAutograd(Vectorized):
    """(b) with autograd in place of the closed form: what most people would stop at."""

    def _gradient(self, query: Tensor, shown: Tensor) -> Tensor:
        self.items.grad = None
        scores = torch.linalg.vecdot(functional.embedding(shown, self.items), query)
        loss = -torch.log_softmax(scores, dim=0)[0].mean()
        loss.backward()
        return loss.detach()
