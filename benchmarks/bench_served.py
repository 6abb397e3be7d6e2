"""Runs of public data sets as they are served: MovieLens-1M and Gowalla, each through an exact index and one of faiss.

Trained by ``--preset spectral`` on the files alone. Each service is asked by id for twenty answers: as fast as it answers, then at
half of that.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness import ROOT, data_folder, report
from serving_world import K, Server

from towerkit.artifact.arrow import load_table

ROUNDS, SECONDS = 5, 3.0
GOWALLA = "gowalla/light_gcn_gowalla.zip::light_gcn_gowalla"
SETS = {
    "ml-1m": ("ml-1m/lightgcn_style/train.txt", "ml-1m/lightgcn_style/test.txt"),
    "gowalla": (f"{GOWALLA}/train.txt", f"{GOWALLA}/test.txt"),
}
GRAPH = ["--factory", "HNSW32", "--ef-search", "128", "--ef-construction", "200"]


def towerkit(*words: str) -> dict[str, Any]:
    """What a command tells."""
    command = [sys.executable, "-m", "towerkit", *words, "--json"]
    found: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=ROOT).stdout)
    return found


def served(run: Path, index: Path) -> dict[str, list[float]]:
    """Seconds of an answer at full throughput, and waiting times at half of it."""
    keys = load_table(run / "model" / "query.arrow").column(0).to_pylist()
    requests = [f"POST /v1/recommend {json.dumps({'query': key, 'k': K})}" for key in keys]
    words = ("-m", "towerkit", "serve", f"run={run}", "--index", f"run={index}", "--port", "0", "--json")
    with Server(*words) as server:
        server.first_answer("/v1/recommend", {"query": keys[0]})
        server.asked(requests, SECONDS / 3)
        full = [server.asked(requests, SECONDS) for _ in range(ROUNDS)]
        took = [each["seconds"] / each["answers"] for each in full]
        rate = 0.5 / statistics.median(took)
        half = [server.asked(requests, SECONDS, connections=256, rate=rate, seed=place) for place in range(ROUNDS)]
    return {"an answer": took, **{f"p{share} at half": [each[f"p{share}_s"] for each in half] for share in (50, 99)}}


def measured(name: str, folder: Path, data: Path) -> None:
    """Train, build both indexes, serve each."""
    train, test = SETS[name]
    run = folder / name
    towerkit(
        "train", "--data", str(data / train), "--test", str(data / test), "--preset", "spectral", "--run", str(run)
    )
    for kind, words in (("exact", []), ("HNSW32", GRAPH)):
        index = folder / f"{name}.{kind}"
        built = towerkit("index", str(run), "--out", str(index), *words)
        recall = built["trials"][built["picked"]]["recall"] if words else 1.0
        about = {"data": f"{name}, {kind}", "candidates": built["candidates"], "dim": built["dim"], "k": K}
        report("served Run", served(run, index), recall=round(recall, 4), **about)


def main() -> None:
    """Both data sets; nothing where they are not there, and in a tiny run."""
    data = data_folder()
    if data is None or "--tiny" in sys.argv:
        report("served Run", {}, left_out="it wants the public data sets, and minutes", ratios={})
        return
    folder = Path(tempfile.mkdtemp())
    try:
        for name in SETS:
            measured(name, folder, data)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
