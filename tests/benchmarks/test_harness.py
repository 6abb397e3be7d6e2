"""What all benchmarks rest on.

- Sides take turns; a ratio is taken round by round, so that what slows a whole round leaves it alone.
- A report is one JSON line with commit, machine, threads, repeats, median and quartiles.
- A limit says how much its work moves; a product at another precision leaves PyTorch's setting as it was.
- A library side gives the time of its own epochs; an engine that refuses the spec is told with its reason.
"""

from __future__ import annotations

import doctest
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

Import = Callable[[str], Any]


def test_sides_take_turns(benchmark_module: Import) -> None:
    order: list[str] = []
    sides = {name: lambda name=name: order.append(name) for name in ("a", "b")}
    seconds = benchmark_module("harness").alternate(sides, 3)
    assert order == ["a", "b"] * 3
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}
    assert all(time >= 0.0 for times in seconds.values() for time in times)


def test_a_ratio_is_taken_round_by_round(benchmark_module: Import) -> None:
    slow_rounds = [1.0, 7.0, 1.0, 3.0, 1.0]
    ours, theirs = [2.0 * slow for slow in slow_rounds], [8.0 * slow for slow in slow_rounds]
    found = benchmark_module("harness").ratio(theirs, ours)
    assert found == {"median": 4.0, "q1": 4.0, "q3": 4.0}


def test_a_report_is_one_line(benchmark_module: Import, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark_module("harness").report("thing", {"own": [1.0, 2.0, 3.0, 4.0, 50.0]}, n=7, dtype="float32", ratios={})
    line = json.loads(capsys.readouterr().out)
    assert line["sides"] == {"own": {"median_s": 3.0, "q1_s": 2.0, "q3_s": 4.0, "min_s": 1.0, "max_s": 50.0}}
    assert (line["benchmark"], line["n"], line["repeats"], line["dtype"]) == ("thing", 7, 5, "float32")
    assert line["threads"] == torch.get_num_threads()
    assert {"commit", "dirty", "machine", "load", "python", "torch"} <= set(line)


def test_limits_say_what_they_move(benchmark_module: Import) -> None:
    limits = benchmark_module("limits")
    before = torch.get_float32_matmul_precision()
    product = limits.gemm(3, 4, 5, medium=True)
    product.work()
    assert product.amount == 2 * 3 * 4 * 5
    assert torch.get_float32_matmul_precision() == before
    assert limits.triad(10).amount == 120
    assert limits.gather(7, 4, 3).amount == 2 * 4 * 4 * 3
    assert product.rate(1e-9) == pytest.approx(120.0)


def test_a_precision_is_put_back_after_an_error(benchmark_module: Import) -> None:
    before = torch.get_float32_matmul_precision()
    with pytest.raises(RuntimeError, match="inside"), benchmark_module("limits").matmul_precision("medium"):
        assert torch.get_float32_matmul_precision() == "medium"
        raise RuntimeError("inside")
    assert torch.get_float32_matmul_precision() == before


def test_a_library_side_times_epochs_of_each_engine(benchmark_module: Import) -> None:
    library, training = benchmark_module("library"), benchmark_module("bench_training")
    settings = benchmark_module("reference.one_backprop").Settings(dim=4, batch_size=64)
    dataset = library.dataset_of(benchmark_module("pairs").random_pairs(20, 30, 200).pairs)
    assert library.engines()[0] == "torch"
    spec = training.one_backprop_spec(settings, as_reference=True)
    timed = library.epoch_timer(dataset, library.with_engine(spec, "torch"), epochs=2)
    assert 0.0 < timed() < 60.0


def test_an_engine_that_refuses_is_told_with_its_reason(benchmark_module: Import) -> None:
    library = benchmark_module("library")
    dataset = library.dataset_of(benchmark_module("pairs").random_pairs(20, 30, 200).pairs)
    spec = benchmark_module("bench_training").bpr_spec(4, {"kind": "no such thing"})
    sides, refused = library.library_sides(dataset, spec, epochs={"torch": 1})
    assert not sides
    assert "no such thing" in refused["torch"]


def test_threads_are_put_back(benchmark_module: Import) -> None:
    library, used = benchmark_module("library"), []
    before = torch.get_num_threads()
    timed, count = library.fastest_threads(lambda: used.append(torch.get_num_threads()) or 1.0)
    timed()
    assert torch.get_num_threads() == before
    assert used[-1] == count and set(used) == {1, before}


def test_random_pairs_are_distinct_and_leave_something_new(benchmark_module: Import) -> None:
    source = benchmark_module("pairs").random_pairs(20, 30, 200)
    pairs = set(zip(source.pairs.users.tolist(), source.pairs.items.tolist(), strict=True))
    assert len(pairs) == 200
    assert source.part(50).origin == "50 pairs of 200 random pairs of 20 users and 30 items"
    assert set(zip(source.part(50).pairs.users.tolist(), source.part(50).pairs.items.tolist(), strict=True)) < pairs
    assert source.part(200) is source


@pytest.mark.parametrize("name", ["harness", "targets", "write"])
def test_examples_in_docstrings_hold(benchmark_module: Import, name: str) -> None:
    found = doctest.testmod(benchmark_module(name))
    assert found.attempted > 0 and found.failed == 0
