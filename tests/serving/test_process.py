"""The command, as a process of its own.

Invariants:
- ``towerkit serve --json`` says where it listens; both clients ask every call and a refusal is an error with the service's words;
- killed while events are written it loses none that it acknowledged, and a new one answers as it did;
- SIGTERM ends it with status 0; 64 requests that are under way then are all answered;
- what cannot be served ends with status 1 and says why;
- two stages behind one name answer as the second one scores what the first one found.
"""

from __future__ import annotations

import asyncio
import importlib.util
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.serving.conftest import Process, held, trained, wait_until_ready

from towerkit.run import Run

pytestmark = pytest.mark.skipif(importlib.util.find_spec("fastapi") is None, reason="needs towerkit[serve]")


@pytest.mark.long
def test_killed_while_events_are_written_then_ended_in_peace(runs: Mapping[str, Run], tmp_path: Path) -> None:
    from towerkit.serving.client import AsyncClient, Client, ServiceError

    words = [f"shop={runs['shop'].path}", f"stars={runs['stars'].path}", "--events", str(tmp_path / "events.db")]
    first = Process(*words)
    assert [model["name"] for model in first.told["models"]] == ["shop", "stars"]
    client = wait_until_ready(first.url)
    acknowledged: list[str] = []

    def write() -> None:
        with Client(first.url) as own:
            for number in range(100_000):
                try:
                    answer = own.events(
                        [{"id": f"e{number}", "query": "newcomer", "item": f"i{number % 40}", "time": number}]
                    )
                except Exception:
                    return
                acknowledged.extend(each["id"] for each in answer["events"])

    writer = threading.Thread(target=write)
    writer.start()
    while len(acknowledged) < 20:
        time.sleep(0.01)
    assert first.end(signal.SIGKILL)[0] == -signal.SIGKILL
    writer.join(20)
    client.close()

    second = Process(*words)
    with wait_until_ready(second.url) as client:
        again = [{"id": each, "query": "newcomer", "item": f"i{int(each[1:]) % 40}"} for each in acknowledged]
        assert {each["status"] for each in client.events(again)["events"]} == {"repeated"}
        assert not client.recommend(query="newcomer", k=3)["cold"]
        check_calls(client)
        with pytest.raises(ServiceError, match="422: history names candidates") as caught:
            client.recommend(history=["never"])
        assert (caught.value.status, caught.value.received) == (422, "'never'")
        check_awaited(AsyncClient(second.url), client)
    status, text = second.end(signal.SIGTERM)
    assert status == 0, text
    assert "Traceback" not in text


def test_what_is_under_way_is_answered_before_the_end(serve: Any) -> None:
    service, answered = serve("shop"), list[Any]()

    def ask(number: int) -> None:
        answered.append(service.send("POST", "/v1/recommend", {"query": f"u{number}", "k": 3})[0])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(64)]
    with held(service):
        for thread in threads:
            thread.start()
        until = time.monotonic() + 60
        while service.service.worker.depth < 64 and time.monotonic() < until:
            time.sleep(0.01)
        assert service.service.worker.depth == 64
        service.server.should_exit = True
        time.sleep(0.2)
    for thread in threads:
        thread.join(60)
    assert answered == [200] * 64


def check_calls(client: Any) -> None:
    """Each method of the client."""
    assert client.similar(item="i3", k=2)["items"]
    assert client.score([{"query": "u1", "item": "i1"}])["scores"]
    assert client.predict([{"text": "good"}], model="stars")["rows"]
    assert client.embed([{"user": "u1"}], side="query")["vectors"]
    assert client.items([{"item": "i3", "price": 1.0}])["candidates"] == 40
    assert client.remove("i3")["candidates"] == 39
    assert client.forget("a/b?c")["events"] == 0
    assert len(client.models()["models"]) == 2


def check_awaited(waiting: Any, client: Any) -> None:
    """The awaited methods answer as the others do."""

    async def main() -> None:
        from towerkit.serving.client import ServiceError

        both = await asyncio.gather(waiting.recommend(query="u5", k=3), waiting.models())
        assert both == [client.recommend(query="u5", k=3), client.models()]
        with pytest.raises(ServiceError, match="403"):
            await waiting.swap("shop", "other")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["nowhere"], "nowhere"),
        (["RUN", "--host", "192.0.2.1"], "needs a token"),
        (["RUN", "RUN"], "names that differ"),
        (["Name=RUN"], "up to 64"),
        (["RUN", "--events", "/"], "SQLite file"),
    ],
)
def test_what_cannot_be_served_says_why(runs: Mapping[str, Run], words: list[str], part: str) -> None:
    from typer.testing import CliRunner

    from towerkit.cli import app
    from towerkit.core.errors import TowerkitError

    path = str(runs["shop"].path)
    result = CliRunner().invoke(app, ["serve", *(word.replace("RUN", path) for word in words), "--port", "0"])
    assert isinstance(result.exception, TowerkitError)
    assert part in str(result.exception)


def test_two_stages(serve: Any, runs: Mapping[str, Run], tmp_path: Path) -> None:
    from towerkit.core.errors import SpecError
    from towerkit.serving.pipelines import read_pipelines

    (tmp_path / "p.yaml").write_text("pipelines: {home: {retrieve: shop, rerank: second, depth: 12}}")
    ranker = {
        "kind": "ranker",
        "towers": {
            "user": {"kind": "id", "dim": 4, "entity": "user"},
            "item": {"kind": "id", "dim": 4, "entity": "item"},
        },
    }
    second = trained(tmp_path / "second", ranker)
    pipelines = read_pipelines(tmp_path / "p.yaml")
    service = serve("shop", "second", "still", own={"second": second}, pipelines=pipelines)
    found = service.post("/v1/recommend", model="home", query="u5", k=5)["items"]
    first = service.post("/v1/recommend", model="shop", query="u5", k=12)["items"]
    pairs = {"user": ["u5"] * 12, "item": [item["item"] for item in first]}
    scores = dict(zip(pairs["item"], second.predict(pairs).column("score").to_pylist(), strict=True))
    assert [item["item"] for item in found] == sorted(scores, key=lambda key: -scores[key])[:5]
    assert [item["score"] for item in found] == pytest.approx([scores[item["item"]] for item in found], abs=1e-5)
    assert found[0]["retrieved"]["rank"] == 1 + pairs["item"].index(found[0]["item"])
    assert service.send("GET", "/v1/models")[1]["models"][-1]["kind"] == "pipeline"
    assert service.refused("/v1/recommend", model="home", history=["i1"])[0] == 422
    (tmp_path / "p.yaml").write_text("pipelines: {home: {retrieve: nobody, rerank: second}}")
    from towerkit.serving.fleet import Fleet
    from towerkit.serving.sources import Source

    with pytest.raises(SpecError, match="nobody"):
        Fleet([Source("shop", runs["shop"].path)], None, read_pipelines(tmp_path / "p.yaml")).load()
    (tmp_path / "p.yaml").write_text("pipelines: {Home: {retrieve: ../x, rerank: second}}")
    with pytest.raises(SpecError, match="pipelines"):
        read_pipelines(tmp_path / "p.yaml")
