"""The end of the demo: the shop's Run as a service, a known user, a new one, three events, and what changes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from towerkit.core.optional import optional_import
from towerkit.run import Run

NEWCOMER = "somebody-new"
_PACKAGES = ("fastapi", "uvicorn", "prometheus_client", "sqlalchemy")


def show_service(run: Run, show: Callable[[str, pa.Table], None]) -> tuple[str, bool]:
    """Serve a Run, ask, tell three events, ask again, and stop.

    Args:
        run: A two-tower whose users learn from events.
        show: Called with a title and a table of answers.

    Returns:
        What was found, and whether all of it is as it should be: the known user is answered as the Run answers, and the
        newcomer is no stranger after the events.

    Raises:
        MissingExtraError: If the extra ``serve`` is not installed.
    """
    for package in _PACKAGES:
        optional_import(package, extra="serve")
    from towerkit.serving.background import serving
    from towerkit.serving.client import Client
    from towerkit.serving.fleet import Fleet
    from towerkit.serving.journal import Journal
    from towerkit.serving.settings import Settings
    from towerkit.serving.sources import Source

    with tempfile.TemporaryDirectory(prefix="towerkit-demo-") as folder:
        events = str(Path(folder) / "events.db")
        fleet = Fleet([Source("shop", run.path)], Journal(events))
        with serving(fleet, Settings(port=0, events=events)) as address, Client(address) as client:
            known = client.recommend(query="u0007", k=5)
            show(f"Served at {address}: for a known user, u0007", _table(known))
            before = client.recommend(query=NEWCOMER, k=5)
            show(f"For '{NEWCOMER}', of whom nothing is known (cold: {before['cold']})", _table(before))
            items = [item["item"] for item in known["items"][:3]]
            told = [{"id": f"demo-{n}", "query": NEWCOMER, "item": item} for n, item in enumerate(items)]
            counted = [each["status"] for each in client.events(told)["events"]]
            after = client.recommend(query=NEWCOMER, k=5, why=True)
            show(f"For '{NEWCOMER}' after three events, {', '.join(items)} (no training)", _table(after))
    personal = counted == ["counted"] * 3 and before["cold"] and not after["cold"]
    as_offline = known["items"] == _offline(run)
    changed = sum(item["item"] not in {each["item"] for each in before["items"]} for item in after["items"])
    found = f"{changed} of 5 answers are others after three events; u0007's are those of the Run; stopped cleanly"
    return found, bool(personal and as_offline and not set(items) & {item["item"] for item in after["items"]})


def _offline(run: Run) -> list[dict[str, Any]]:
    rows = run.recommend("u0007", k=5).to_pylist()
    return [
        {"item": row["product_id"], "rank": row["rank"], "score": row["score"], "title": row["title"]} for row in rows
    ]


def _table(answer: dict[str, Any]) -> pa.Table:
    rows = [{name: item[name] for name in ("rank", "item", "title", "score")} for item in answer["items"]]
    return pa.Table.from_pylist(rows)
