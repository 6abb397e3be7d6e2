"""Whether users that learn while they are served are served better: held-out events, streamed in the order in which they happened.

    python benchmarks/stream_users.py RUN EVENTS.csv[.gz] --query userID --candidate movieID --time timestamp

RUN was trained on the earlier events of each user (``split: {kind: per_query, take: last, …}``), EVENTS are all of them. Before
each held-out event the served model is asked for the user's best ``k`` items, once as it was trained and once as it has learned
from the user's events up to then; both leave out what the user met, in training and since. Then the event is told. The share of
events that were among the answers is the hit rate; the interval of the difference is that of a bootstrap over users. Prints one
line of JSON for each share of the old vector that stays.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from towerkit.core.random import generator
from towerkit.data.readers import read_table
from towerkit.run import Run
from towerkit.serving.engine import Engine
from towerkit.serving.recommending import recommend
from towerkit.serving.requests import Recommend
from towerkit.serving.users import OnlineUsers


def held_out(
    run: Run, path: Path, names: tuple[str, str, str], users: int, most: int
) -> dict[str, list[tuple[str, float]]]:
    """User -> items and times of the events that the Run has not learned from, oldest first, of some users."""
    query, candidate, time = names
    model: Any = run.model
    table = read_table(str(path)).data.select(list(names))
    keys = (
        model.query.rows(table.column(query).combine_chunks()),
        model.candidate.rows(table.column(candidate).combine_chunks()),
    )
    width = len(model.candidate.keys) + 1
    seen = model.seen.tocoo()
    learned = (seen.row.astype(np.int64) + 1) * width + seen.col + 1
    new = ~np.isin(keys[0] * width + keys[1], learned) & (keys[0] > 0) & (keys[1] > 0)
    rows = table.filter(pa.array(new)).sort_by([(query, "ascending"), (time, "ascending")])
    found: dict[str, list[tuple[str, float]]] = {}
    for user, item, moment in zip(*(rows.column(name).to_pylist() for name in names), strict=True):
        found.setdefault(str(user), []).append((str(item), float(moment)))
    chosen = generator(0, "users").permutation(sorted(found))[:users]
    return {str(user): found[str(user)][:most] for user in chosen}


def streamed(
    engine: Engine, events: dict[str, list[tuple[str, float]]], k: int, *, learns: bool
) -> dict[str, list[bool]]:
    """User -> whether each event was among the answers before it."""
    assert engine.live is not None
    assert engine.users is not None
    found: dict[str, list[bool]] = {user: [] for user in events}
    for number in range(
        max(map(len, events.values()))
    ):  # one event of each user at a time, so that they are ranked together
        asked = [user for user in events if number < len(events[user])]
        for start in range(0, len(asked), 64):
            users = asked[start : start + 64]
            met = [[item for item, _ in events[user][:number]] if not learns else [] for user in users]
            bodies = [Recommend(query=user, k=k, deny=items or None) for user, items in zip(users, met, strict=True)]
            for user, answer in zip(users, recommend(engine, bodies), strict=True):
                assert isinstance(answer, dict), answer
                item, moment = events[user][number]
                found[user].append(item in {str(each["item"]) for each in answer["items"]})
                if learns:
                    engine.users.apply(engine.live, user, item, moment)
    return found


def compared(frozen: dict[str, list[bool]], online: dict[str, list[bool]]) -> dict[str, Any]:
    """Both hit rates, and the difference with its interval."""
    hits = np.array([[sum(frozen[user]), sum(online[user]), len(frozen[user])] for user in frozen], np.float64)
    draw = generator(0, "bootstrap").integers(0, len(hits), (2_000, len(hits)))
    sums = hits[draw].sum(axis=1)
    low, high = np.percentile((sums[:, 1] - sums[:, 0]) / sums[:, 2], [2.5, 97.5])
    total = hits.sum(axis=0)
    return {
        "frozen": round(total[0] / total[2], 5),
        "online": round(total[1] / total[2], 5),
        "difference": round((total[1] - total[0]) / total[2], 5),
        "interval": [round(float(low), 5), round(float(high), 5)],
        "events": int(total[2]),
        "users": len(hits),
    }


def main(words: list[str]) -> None:
    """Stream, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("events", type=Path)
    for name in ("query", "candidate", "time"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--users", type=int, default=600)
    parser.add_argument("--most", type=int, default=20, help="events of a user")
    parser.add_argument("--beta", type=float, action="append", help="also with this share; may be given again")
    given = parser.parse_args(words)
    run = Run.load(given.run)
    engine = Engine.load("streamed", run)
    assert engine.users is not None, "the Run does not learn from events"
    events = held_out(run, given.events, (given.query, given.candidate, given.time), given.users, given.most)
    frozen = streamed(engine, events, given.k, learns=False)
    for beta in [engine.users.beta, *(given.beta or [])]:
        engine.users = OnlineUsers(run.model, beta)  # type: ignore[arg-type]
        online = streamed(engine, events, given.k, learns=True)
        print(
            json.dumps({"name": f"hit@{given.k} of the next event", "beta": beta, **compared(frozen, online)}),
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
