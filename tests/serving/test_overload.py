"""More than the service can do.

Invariants:
- with the computing thread busy and four times as many requests as may wait, exactly those that may wait do; each of the others is
  refused before anything is computed, with 429 and a time to come back; those that waited are answered, and so is the next one;
- a queue without a bound (the control) refuses nobody, and the test notices;
- asked by schemathesis whatever the description of the service allows and forbids, no call is answered with 5xx; a call with a
  defect (the control) is found.
"""

from __future__ import annotations

import importlib.util
import threading
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.serving.conftest import Asked, held

pytestmark = pytest.mark.skipif(importlib.util.find_spec("fastapi") is None, reason="needs towerkit[serve]")
WAITING = 8


def check_overload(service: Asked) -> None:
    """Four times as many requests as may wait, while nothing is computed."""
    worker, told = service.service.worker, list[tuple[int, dict[str, str]]]()

    def ask() -> None:
        status, _, headers = service.send("POST", "/v1/recommend", {"query": "u1", "k": 3})
        told.append((status, headers))

    threads = [threading.Thread(target=ask) for _ in range(4 * WAITING)]
    with held(service):
        computed = worker.batches
        for thread in threads:
            thread.start()
        until = time.monotonic() + 60
        while worker.depth + len(told) < len(threads) and time.monotonic() < until:
            time.sleep(0.01)
        refused, waiting = list(told), worker.depth
        was_computed = worker.batches - computed
    for thread in threads:
        thread.join(60)
    assert (len(refused), waiting, was_computed) == (3 * WAITING, WAITING, 0)
    assert all(status == 429 and int(headers["retry-after"]) >= 1 for status, headers in refused)
    assert [status for status, _ in told[len(refused) :]] == [200] * WAITING
    assert service.post("/v1/recommend", query="u1", k=3)["items"]


def test_a_full_service_refuses_at_once_and_recovers(serve: Any) -> None:
    from towerkit.serving.settings import Limits

    check_overload(serve("shop", limits=Limits(waiting=WAITING, batch=4)))


def test_a_queue_without_a_bound_would_be_noticed(serve: Any) -> None:
    with pytest.raises(AssertionError, match="(0, 32, 0)"):
        check_overload(serve("shop"))


def check_description(service: Asked, examples: int) -> int:
    """Ask each operation of the description in many ways; how many there are.

    Raises:
        AssertionError: If one is answered with 5xx.
    """
    import schemathesis

    description = service.send("GET", "/openapi.json")[1]
    schema = schemathesis.openapi.from_dict(description)
    operations = [each.ok() for each in schema.get_all_operations()]
    address = f"http://127.0.0.1:{service.port}"
    for operation in operations:
        modes = [operation.as_strategy(generation_mode=mode) for mode in schemathesis.GenerationMode]

        @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=st.one_of(modes))
        def ask(case: Any) -> None:
            answer = case.call(base_url=address)
            assert answer.status_code < 500, (case.method, case.path, case.body, answer.text)

        ask()
    return len(operations)


needs_schemathesis = pytest.mark.skipif(importlib.util.find_spec("schemathesis") is None, reason="needs schemathesis")


@needs_schemathesis
def test_no_call_of_the_description_fails(serve: Any, tmp_path: Any) -> None:
    service = serve("shop", "stars", events=str(tmp_path / "e.db"), candidates=tmp_path, admin_token="a" * 16)
    assert check_description(service, 10) >= 16


@needs_schemathesis
@pytest.mark.soak
def test_no_call_of_the_description_fails_in_many_ways(serve: Any, tmp_path: Any) -> None:
    service = serve("shop", "stars", events=str(tmp_path / "e.db"), candidates=tmp_path, admin_token="a" * 16)
    assert check_description(service, 500) >= 16


@needs_schemathesis
def test_a_call_with_a_defect_is_found(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from towerkit.serving.engine import Engine

    service = serve("shop")
    monkeypatch.setattr(Engine, "describe", lambda _: 1 / 0)
    with pytest.raises(AssertionError, match="/v1/models"):
        check_description(service, 3)
