"""Callers that hold connections.

Invariants:
- headers that never end, or never come, end the connection after a time; headers without bound are refused with 431 (the control: a
  request whose bytes come one by one, in time, is answered);
- a caller that sends requests and reads no answer is cut off, one that reads late is not;
- more connections than there is room for close the one that has been idle for longest: newcomers are answered, and so is a question
  whether the service lives while requests take up all the room;
- what is no HTTP, an upgrade, and a connection that is used again after a refusal get an answer in our words.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import socket
import time
from collections.abc import Callable, Generator
from typing import Any

import pytest
from tests.serving.conftest import Asked, held

pytestmark = pytest.mark.skipif(importlib.util.find_spec("fastapi") is None, reason="needs towerkit[serve]")
HEAD = b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
BODY = b'{"query": "u1", "k": 2}'
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY


@contextlib.contextmanager
def connected(service: Asked) -> Generator[socket.socket]:
    """A bare connection."""
    with socket.create_connection((service.host, service.port), timeout=60) as connection:
        yield connection


def answered(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """Status and content of the next answer; (0, {}) where the connection has ended."""
    try:
        head, _, body = connection.recv(1 << 20).partition(b"\r\n\r\n")
        if not head:
            return 0, {}
        told = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        while len(body) < int(told[b"content-length"]):
            body += connection.recv(1 << 20)
    except ConnectionError:
        return 0, {}
    return int(head.split()[1]), json.loads(body)


def has_ended(connection: socket.socket) -> bool:
    """Whether the service hangs up before we do."""
    connection.settimeout(30)
    try:
        while connection.recv(1 << 20):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


def limited(serve: Any, **limits: Any) -> Asked:
    """A service with limits of its own."""
    from towerkit.serving.settings import Limits

    found: Asked = serve("shop", limits=Limits(**limits))
    return found


def test_headers_that_never_come_end_the_connection(serve: Any) -> None:
    service = limited(serve, headers_s=0.3)
    with connected(service) as silent, connected(service) as slow, connected(service) as again:
        slow.sendall(HEAD)
        again.sendall(WHOLE)
        assert answered(again)[0] == 200
        again.sendall(HEAD[:20])  # the second request of a connection is waited for no longer
        assert all(has_ended(each) for each in (silent, slow, again))


def test_slow_headers_that_come_in_time_are_headers(serve: Any) -> None:
    with connected(limited(serve, headers_s=60.0)) as connection:
        for place in range(len(WHOLE)):
            connection.sendall(WHOLE[place : place + 1])
        assert answered(connection)[0] == 200


def test_headers_without_bound_are_refused(serve: Any) -> None:
    service = limited(serve)
    for flood in (b"X-Long: " + b"a" * 100_000, b"".join(b"X-%d: a\r\n" % number for number in range(20_000))):
        with connected(service) as connection:
            connection.sendall(HEAD)
            with contextlib.suppress(ConnectionError):
                for start in range(0, len(flood), 8_192):
                    connection.sendall(flood[start : start + 8_192])
                    time.sleep(0.01)
            status, content = answered(connection)
            assert (status in (0, 431), content.get("error", {}).get("received", "more")) == (True, "more")
            assert has_ended(connection)
    assert service.post("/v1/recommend", query="u1")["items"]


def soon(is_so: Callable[[], bool]) -> bool:
    """Whether something comes true within a minute."""
    until = time.monotonic() + 60
    while not is_so() and time.monotonic() < until:
        time.sleep(0.01)
    return is_so()


def test_a_caller_that_reads_nothing_is_cut_off(serve: Any) -> None:
    ask = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for unread_s, cut_off in ((0.3, True), (600.0, False)):
        service = limited(serve, unread_s=unread_s)
        size = int(service.send("GET", "/openapi.json")[2]["content-length"])
        state = service.server.server_state
        many = ask * (40_000_000 // size)  # whose answers are more than twice what the system keeps for both sides
        with connected(service) as connection:
            connection.sendall(many)
            if cut_off:
                assert soon(lambda state=state: state.total_requests > 1)
                assert soon(lambda state=state: not state.connections)
                continue
            assert soon(lambda state=state: any(each._unread for each in list(state.connections)))
            read = 0
            while read < 30_000_000:
                read += len(connection.recv(1 << 20))
            assert len(state.connections) == 1


def test_newcomers_get_the_room_of_the_idle(serve: Any) -> None:
    service = limited(serve, connections=4)
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connected(service)) for _ in range(4)]
        for each in idle:
            each.sendall(WHOLE)
            assert answered(each)[0] == 200
        assert service.post("/v1/recommend", query="u1")["items"]
        assert has_ended(idle[0])
        idle[3].sendall(WHOLE)
        assert answered(idle[3])[0] == 200


def test_a_full_service_still_says_that_it_lives(serve: Any) -> None:
    service = limited(serve, connections=3)
    with contextlib.ExitStack() as stack, held(service):
        busy = [stack.enter_context(connected(service)) for _ in range(3)]
        for each in busy:
            each.sendall(WHOLE)
        until = time.monotonic() + 60
        while service.service.worker.depth < 3 and time.monotonic() < until:
            time.sleep(0.01)
        status, error = service.refused("/v1/recommend", query="u1")
        assert (status, error["rule"]) == (503, "At most 3 requests are under way.")
        assert service.send("GET", "/health/live")[0] == 200


def test_what_is_no_http_is_told_so(serve: Any) -> None:
    service = limited(serve)
    for rubbish in (
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\n\r\n",
    ):
        with connected(service) as connection:
            connection.sendall(rubbish)
            status, content = answered(connection)
            assert (status, content["error"]["rule"]) == (400, "A request is HTTP/1.1.")
    with connected(service) as connection:
        for head, status in (
            (b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n", 200),
            (HEAD, 422),
        ):  # it has no body then
            connection.sendall(head + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            assert answered(connection)[0] == status


def test_a_connection_after_a_refusal(serve: Any) -> None:
    service = limited(serve)
    with connected(service) as connection:
        for _ in range(2):
            connection.sendall(WHOLE.replace(b"/v1/recommend", b"/v1/nothing"))
            assert answered(connection)[0] == 404
        connection.sendall(HEAD + b"Content-Length: 2000000\r\n\r\n" + b" " * 2_000_000 + WHOLE)
        assert answered(connection)[0] == 413
        assert has_ended(connection)


def test_a_key_of_the_longest_sort_can_be_forgotten(serve: Any, tmp_path: Any) -> None:
    from urllib.parse import quote

    service = serve("shop", events=str(tmp_path / "e.db"))
    for key in ("界" * 256, "𝄞" * 256, ".", "a/../b", "%2e%2e", "e\u0301", "\u202eabc"):
        service.post("/v1/events", events=[{"id": key, "query": key, "item": "i3"}])
        assert service.send("DELETE", f"/v1/users/{quote(key, safe='')}")[1] == {"events": 1}


def test_what_never_reached_a_call_is_counted(serve: Any) -> None:
    service = serve("shop", token="a-token-of-this-test")  # noqa: S106 - of this test
    service.send("POST", "/v1/recommend", {"query": "u1"})
    page = service.send("GET", "/metrics", None, {"Authorization": "Bearer a-token-of-this-test"})[1]
    assert 'towerkit_requests_total{call="/v1/recommend",status="401"} 1.0' in page


def test_a_service_whose_thread_has_ended_does_not_live(serve: Any) -> None:
    service = serve("shop")
    assert service.send("GET", "/health/live")[0] == 200
    service.service.worker.stop()
    status, content, _ = service.send("GET", "/health/live")
    assert (status, content["error"]["next"]) == (503, "Start it again.")
