"""One of two processes that look rows of a table up and take Adagrad steps, by towerkit's shards and by TorchRec's row-wise ones.

``torchrec_worker.py RANK FOLDER`` writes how far the two are apart, in the rows that are read and in the table after the steps.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torchrec
from torch.distributed.optim import _apply_optimizer_in_backward
from torchrec.distributed.embedding import EmbeddingCollectionSharder
from torchrec.distributed.model_parallel import DistributedModelParallel
from torchrec.distributed.planner import EmbeddingShardingPlanner, ParameterConstraints, Topology
from torchrec.distributed.types import ShardingType

from towerkit.scale.processes import Processes, connected
from towerkit.towers import IdTower
from towerkit.training.optimizers import AdagradSpec
from towerkit.training.shards import PooledShard
from towerkit.training.together import reduce_gradients

ROWS, DIM, LR = 101, 8, 0.1


def by_torchrec(table: torch.Tensor) -> DistributedModelParallel:
    """The table in TorchRec's row-wise shards, whose backward pass takes the steps."""
    config = torchrec.EmbeddingConfig(name="t", embedding_dim=DIM, num_embeddings=ROWS, feature_names=["f"])
    module, sharder = torchrec.EmbeddingCollection(tables=[config]), EmbeddingCollectionSharder()
    _apply_optimizer_in_backward(torch.optim.Adagrad, module.parameters(), {"lr": LR})
    places = Topology(world_size=2, compute_device="cpu", local_world_size=2)
    row_wise = {"t": ParameterConstraints(sharding_types=[ShardingType.ROW_WISE.value])}
    planner = EmbeddingShardingPlanner(topology=places, constraints=row_wise)
    plan = planner.collective_plan(module, [sharder], dist.GroupMember.WORLD)
    made = DistributedModelParallel(module, device=torch.device("cpu"), sharders=[sharder], plan=plan)
    for shard in made.state_dict()["embeddings.t.weight"].local_shards():
        start, length = shard.metadata.shard_offsets[0], shard.metadata.shard_sizes[0]
        shard.tensor.detach().copy_(table[start : start + length])
    return made


def main(rank: int, folder: Path) -> None:
    """Three steps by both."""
    with connected(rank, 2, folder / "meeting") as world:
        tower = IdTower(ROWS, DIM, sparse_rows=True)
        table = torch.randn(ROWS, DIM, generator=torch.Generator().manual_seed(0))
        tower.table.data = table.clone()
        theirs, ours = by_torchrec(table), PooledShard(tower, world)
        optimizer = AdagradSpec(lr=LR).build([ours.rows])
        read = []
        for step in range(3):
            draw = torch.Generator().manual_seed(10 * step + rank)
            codes = torch.randint(0, ROWS, (40 + 7 * rank,), generator=draw)
            weights = torch.randn(len(codes), DIM, generator=draw)
            lengths = torch.ones(len(codes), dtype=torch.int64)
            asked = torchrec.KeyedJaggedTensor.from_lengths_sync(["f"], codes, lengths)
            one, other = theirs(asked)["f"].values(), ours.look_up(codes)
            read.append((one - other).detach().abs().max().item())
            optimizer.zero_grad()
            for found in (one, other):
                (found * weights).sum().backward()
            reduce_gradients(world, [ours.rows], [0])
            optimizer.step()
        apart = {"read": read, "table": furthest(theirs, ours, world)}
        (folder / f"apart-{rank}.json").write_text(json.dumps(apart))


@torch.no_grad()
def furthest(theirs: DistributedModelParallel, ours: PooledShard, world: Processes) -> float:
    """The largest difference of a weight, between TorchRec's shard of this process and ours of all."""
    whole = torch.empty(ROWS, DIM)
    sizes = [len(range(rank, ROWS, 2)) for rank in range(2)]
    for rank, own in enumerate(world.all(ours.rows.detach(), sizes).split(sizes)):
        whole[rank::2] = own
    found = 0.0
    for shard in theirs.state_dict()["embeddings.t.weight"].local_shards():
        start, length = shard.metadata.shard_offsets[0], shard.metadata.shard_sizes[0]
        found = max(found, float((shard.tensor - whole[start : start + length]).abs().max()))
    return found


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
