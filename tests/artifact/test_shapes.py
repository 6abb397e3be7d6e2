"""Names and shapes of weights, read off a module that has none.

- They are those of the module as it is made, whatever its start does to its tensors.
- Opening a Run of any kind does not load PyTorch's compiler, which would take longer than all the rest of it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from towerkit.artifact.shapes import shapes_of
from towerkit.training.state import seeded_torch

RUNS = Path(__file__).resolve().parents[1] / "fixtures" / "runs" / "format-2"


class Odd(nn.Module):
    """A start that scales, adds, takes means and broadcasts."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(5, 3) * 0.01)
        self.mean = nn.Parameter(torch.randn(5, 3).mean(dim=0))
        self.wide = nn.Parameter(torch.randn(1, 3) * torch.randn(5, 1))
        self.cuts = nn.Parameter(torch.logit(torch.cumsum(torch.rand(4), dim=0)[:-1]))
        nn.init.xavier_normal_(self.table)


class Known(nn.Module):
    """One whose start does sums with numbers that are there, beside its weights."""

    def __init__(self) -> None:
        super().__init__()
        sizes = torch.clamp(torch.tensor([1.0, 9.0], device="cpu"), 2, 4)
        self.wide = nn.Parameter(torch.zeros(int(sizes.sum()), 3))
        self.outer = nn.Parameter(torch.add(torch.zeros(2, 1), torch.zeros(1, 4)))


@pytest.mark.parametrize(
    "build",
    [
        Odd,
        Known,
        lambda: nn.Embedding(4, 3),
        lambda: nn.TransformerEncoderLayer(8, 2, 16),
        lambda: nn.GRU(3, 4),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.LayerNorm(5)),
    ],
)
def test_shapes_are_those_of_the_module(build: Callable[[], nn.Module]) -> None:
    with seeded_torch(0):
        made = build().state_dict()
    assert shapes_of(build) == {name: tuple(tensor.shape) for name, tensor in made.items()}


def test_opening_a_run_does_not_load_the_compiler() -> None:
    kinds = sorted(path.name for path in RUNS.iterdir())
    assert {"two_tower", "tower_model", "ranker", "late_fusion"} <= set(kinds)
    script = "import sys\nfrom pathlib import Path\nimport towerkit as tk\n"
    script += f"for kind in {kinds!r}:\n    tk.load(Path({str(RUNS)!r}) / kind / 'run').model\n"
    script += "    assert 'torch._dynamo' not in sys.modules, kind\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
