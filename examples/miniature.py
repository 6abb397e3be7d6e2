"""A two-tower from scratch, in PyTorch alone: what towerkit does, without its care. Read it from top to bottom, then run it:

    python examples/miniature.py

People buy products. One tower turns a person into a vector, the other a product; the inner product of the two says how well they
go together. The towers here are the simplest there are: a table of vectors, one row for each id.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from towerkit.data.readers import read_table  # only to read the bundled shop

DIM, NEGATIVES, BATCH, EPOCHS, RATE, TOP = 32, 20, 512, 15, 1e-2, 10

Pairs = tuple[np.ndarray, np.ndarray]
"""``[pairs]`` rows of the people, and of the products."""


# ---- the data: who bought what, cut at two moments in time, so that nothing is learned from the future


def purchases() -> tuple[list[Pairs], int, int]:
    """Training, validation and test pairs as rows of the two tables, and the number of people and of products."""
    rows = read_table("builtin:shop/purchases").data.sort_by("time")
    user, product = (np.unique(rows.column(name).to_numpy(), return_inverse=True) for name in ("user_id", "product_id"))
    cuts = [int(len(rows) * share) for share in (0.8, 0.9)]
    parts = list(zip(np.split(user[1], cuts), np.split(product[1], cuts), strict=True))
    return parts, len(user[0]), len(product[0])


# ---- the model: two towers, and a match


class TwoTower(nn.Module):
    """Two tables of vectors; the score of a pair is the inner product of its two rows."""

    def __init__(self, people: int, products: int, draw: torch.Generator) -> None:
        super().__init__()
        self.people = nn.Parameter(torch.randn(people, DIM, generator=draw) * DIM**-0.5)
        self.products = nn.Parameter(torch.randn(products, DIM, generator=draw) * DIM**-0.5)

    def forward(self, users: Tensor, candidates: Tensor) -> Tensor:
        """``users`` [B], ``candidates`` [B, N] -> scores [B, N]."""
        return torch.einsum("bd,bnd->bn", self.people[users], self.products[candidates])


# ---- the loss: the product that was bought against some that were drawn


def loss_of(model: TwoTower, users: Tensor, bought: Tensor, known: Tensor, draw: torch.Generator) -> Tensor:
    """Softmax over the bought product and drawn ones: -log of the share that the bought one gets.

    Products are drawn alike, so no correction is needed: one that is drawn oftener than others would have to pay for it
    (subtract the log of its chance from its score). A drawn product that the person did buy is no negative, and left out.
    """
    drawn = torch.randint(known.shape[1], (len(users), NEGATIVES), generator=draw)  # [B, N]
    scores = model(users, torch.cat([bought[:, None], drawn], dim=1))  # [B, 1 + N]
    false = torch.cat([torch.zeros(len(users), 1, dtype=torch.bool), known[users[:, None], drawn]], dim=1)
    return F.cross_entropy(scores.masked_fill(false, -torch.inf), torch.zeros(len(users), dtype=torch.long))


def train(model: TwoTower, optimizer: torch.optim.Optimizer, part: Pairs, known: Tensor, draw: torch.Generator) -> None:
    """One pass over the pairs, in a fresh order; gradients of both tables (two-backprop)."""
    users, bought = (torch.from_numpy(each) for each in part)
    for rows in torch.randperm(len(users), generator=draw).split(BATCH):
        loss = loss_of(model, users[rows], bought[rows], known, draw)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def average(model: TwoTower, part: Pairs, share: float = 0.1) -> None:
    """The other update, one-backprop: people have no gradient. Each moves towards what she bought, event by event.

    The same lines serve a person who came a second ago: no training is needed to answer her.
    """
    with torch.no_grad():
        for user, product in zip(*part, strict=True):
            model.people[user].lerp_(model.products[product], share)


# ---- the measure: all products in order, for each person, without those she had


def ndcg(scores: Tensor, part: Pairs, known: Tensor) -> float:
    """The mean over people of the discounted hits among the first ``TOP``, as a share of the best possible."""
    gains = []
    for user in np.unique(part[0]):
        wanted = set(part[1][part[0] == user]) - set(known[user].nonzero()[:, 0].tolist())
        if wanted:
            order = scores[user].masked_fill(known[user], -torch.inf).topk(TOP).indices.tolist()
            got = sum(1 / np.log2(place + 2) for place, product in enumerate(order) if product in wanted)
            gains.append(got / sum(1 / np.log2(place + 2) for place in range(min(TOP, len(wanted)))))
    return float(np.mean(gains))


def main(seed: int = 0) -> dict[str, float]:
    """Train, keep the epoch that validation likes best, then look at test once."""
    (learned, validation, test), people, products = purchases()
    known = torch.zeros(people, products, dtype=torch.bool)  # who had what in training
    known[learned[0], learned[1]] = True
    draw = torch.Generator().manual_seed(seed)
    model = TwoTower(people, products, draw)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    best, kept = -1.0, model.state_dict()
    for epoch in range(EPOCHS):
        train(model, optimizer, learned, known, draw)
        reached = ndcg(model.people @ model.products.T, validation, known)
        print(f"epoch {epoch + 1}: validation NDCG@{TOP} {reached:.4f}")
        if reached > best:
            best, kept = reached, {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(kept)
    popular = known.sum(dim=0).float().expand(people, products)
    found = {"popularity": ndcg(popular, test, known)}
    found["two-backprop"] = ndcg((model.people @ model.products.T).detach(), test, known)
    average(model, learned)
    found["people averaged"] = ndcg((model.people @ model.products.T).detach(), test, known)
    return found


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name}: test NDCG@{TOP} {value:.4f}")
