"""What strangers may send.

Invariants:
- the corpus of hostile requests is answered with 4xx, by a short body that says what holds; none is answered with 5xx,
  and the service answers as before;
- bodies are small, plain, JSON as its standard has it; the limits of lists and texts hold at their edge;
- another Host, another Origin, a missing or wrong token and a path that is none are refused, in the words of the rule; with the
  right token everything is as without one;
- random JSON in place of any request is never answered with 5xx (Hypothesis).
"""

from __future__ import annotations

import importlib.util
import json
import socket
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.serving.conftest import Asked

pytestmark = pytest.mark.skipif(importlib.util.find_spec("fastapi") is None, reason="needs towerkit[serve]")

JSON = {"Content-Type": "application/json"}
CALLS = ("recommend", "similar", "score", "predict", "embed", "events", "items")
RECOMMEND: dict[str, bytes] = {
    "NaN": b'{"query": "u1", "k": NaN}',
    "infinity": b'{"query": "u1", "rules": {"diversity": Infinity}}',
    "1e999": b'{"features": {"age": 1e999}}',
    "1e308 as k": b'{"query": "u1", "k": 1e308}',
    "k of 0": b'{"query": "u1", "k": 0}',
    "k of -1": b'{"query": "u1", "k": -1}',
    "k of 2^63": b'{"query": "u1", "k": 9223372036854775808}',
    "k of a thousand digits": b'{"query": "u1", "k": ' + b"9" * 1000 + b"}",
    "k a text": b'{"query": "u1", "k": "3"}',
    "k true": b'{"query": "u1", "k": true}',
    "query true": b'{"query": true}',
    "query a list": b'{"query": ["u1"]}',
    "key too long": b'{"query": "' + b"a" * 300 + b'"}',
    "huge key": b'{"query": "' + b"a" * 900_000 + b'"}',
    "empty key": b'{"query": ""}',
    "NUL": b'{"query": "u\\u00001"}',
    "lone surrogate": b'{"query": "\\ud800"}',
    "lone surrogate as a key": b'{"features": {"\\udfff": 1}}',
    "not UTF-8": b'{"query": "\xff\xfe"}',
    "deep": b'{"features": ' + b'{"a":' * 10_000 + b"1" + b"}" * 10_001,
    "deep list": b"[" * 100_000,
    "a bracket in a text that never ends": b'{"query": "' + b"[" * 1000,
    "repeated key": b'{"query": "u1", "query": "u2"}',
    "unknown key": b'{"query": "u1", "path": "/etc/passwd"}',
    "a list in place of an object": b'["u1"]',
    "nothing": b"null",
    "half": b'{"query": "u1"',
    "two": b'{"query": "u1"} {"query": "u2"}',
    "a path as a list": b'{"query": "u1", "allow": "../../etc/passwd"}',
    "a model outside": b'{"query": "u1", "model": "../shop"}',
    "a model in capitals": b'{"query": "u1", "model": "SHOP"}',
    "two questions": b'{"query": "u1", "history": ["i1"]}',
    "no question": b"{}",
    "a history of 1001": json.dumps({"history": ["i1"] * 1001}).encode(),
    "a history of nobody": b'{"history": ["never"]}',
    "a history of nothing": b'{"history": []}',
    "10,001 keys": json.dumps({"query": "u1", "allow": list(range(10_001))}).encode(),
    "a condition that nests": json.dumps({"query": "u1", "where": "(" * 1_000 + "price < 1" + ")" * 900}).encode(),
    "a condition that is code": b'{"query": "u1", "where": "__import__(\'os\').system(\'true\')"}',
    "nested features": b'{"features": {"age": {"a": 1}}}',
    "a wrong value": b'{"features": {"age": "old"}}',
    "a huge number": b'{"features": {"age": 123456789012345678901234567890}}',
    "a pin of nobody": b'{"query": "u1", "rules": {"pinned": [{"item": "never", "place": 1}]}}',
    "a cap of no column": b'{"query": "u1", "rules": {"caps": [{"column": "never", "most": 1}]}}',
    "a boost of 1e308": b'{"query": "u1", "rules": {"boosts": [{"where": "price < 9", "add": 1e308}]}}',
    "stock of a text": b'{"query": "u1", "rules": {"in_stock": "kind"}}',
}


def refused(service: Asked, path: str, body: bytes, headers: dict[str, str] = JSON) -> tuple[int, dict[str, Any]]:
    """Send what must be refused."""
    status, content, told = service.send("POST", path, body, headers)
    assert 400 <= status < 500, (status, content)
    assert set(content["error"]) == {"rule", "received", "next"}
    assert content["error"]["rule"]
    assert len(json.dumps(content)) < 6_000
    assert told["content-type"] == "application/json"
    return status, content["error"]


@pytest.mark.parametrize("name", RECOMMEND)
def test_hostile_bodies(service: Asked, name: str) -> None:
    refused(service, "/v1/recommend", RECOMMEND[name])
    assert service.post("/v1/recommend", query="u1", k=2)["items"]


def test_a_whole_k_written_as_a_float_is_one(service: Asked) -> None:
    status, content, _ = service.send("POST", "/v1/recommend", b'{"query": "u1", "k": 3.0}', JSON)
    assert (status, len(content["items"])) == (200, 3)


def test_bodies_of_other_kinds(service: Asked) -> None:
    body = b'{"query": "u1"}'
    for size in (1_000_001, 10_000_000):  # the answer comes although the client reads it only when it has sent all
        assert refused(service, "/v1/recommend", b" " * size)[0] == 413
    assert refused(service, "/v1/recommend", body, JSON | {"Content-Encoding": "gzip"})[0] == 415
    assert refused(service, "/v1/recommend", body, {"Content-Type": "text/plain"})[0] == 415
    assert refused(service, "/v1/recommend?path=/etc/passwd", body)[0] == 404
    assert refused(service, "/v1/" + "a" * 2_000, body)[0] == 404
    assert refused(service, "/v1/recommend", body, JSON | {"X-Long": "a" * 20_000})[0] == 431
    assert refused(service, "/v1/../../etc/passwd", body)[0] == 404
    assert service.send("GET", "/v1/recommend")[0] == 405
    assert service.send("DELETE", "/v1/users/" + "a" * 300)[0] == 422
    assert service.send("DELETE", "/v1/users/..%2f..%2fetc%00")[0] == 422


def test_a_chunked_body_is_cut_off_at_the_limit(service: Asked) -> None:
    with socket.create_connection((service.host, service.port), timeout=10) as connection:
        connection.sendall(
            b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        for _ in range(40):
            connection.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
        assert b" 413 " in connection.recv(65536).split(b"\r\n")[0]


def test_other_hosts_and_origins_are_refused(service: Asked) -> None:
    body = b'{"query": "u1"}'
    assert refused(service, "/v1/recommend", body, JSON | {"Host": "evil.example"})[0] == 421
    assert refused(service, "/v1/recommend", body, JSON | {"Origin": "https://evil.example"})[0] == 403
    assert refused(service, "/v1/recommend", body, JSON | {"Origin": "null"})[0] == 403
    own = JSON | {"Origin": f"http://localhost:{service.port}", "Host": f"LOCALHOST:{service.port}"}
    assert service.send("POST", "/v1/recommend", body, own)[0] == 200


def test_tokens(serve: Any) -> None:
    token, admin = "a-token-of-this-test", "an-admin-token-of-this-test"
    service = serve("shop", token=token, admin_token=admin)
    body = b'{"query": "u1"}'
    status, error = refused(service, "/v1/recommend", body)
    assert (status, error["received"]) == (401, "none")
    for wrong in (f"Bearer {token}x", f"Bearer {token[:-1]}", f"Basic {token}", "Bearer", "Bearer ü", token):
        assert refused(service, "/v1/recommend", body, JSON | {"Authorization": wrong})[0] == 401
    for right in (token, admin):
        assert service.send("POST", "/v1/recommend", body, JSON | {"Authorization": f"Bearer {right}"})[0] == 200
    assert service.send("GET", "/metrics")[0] == 401
    assert service.send("GET", "/openapi.json")[0] == 401
    assert service.send("GET", "/health/live")[0] == 200
    plain = JSON | {"Authorization": f"Bearer {token}"}
    assert refused(service, "/v1/models/shop:swap", b'{"candidate": "a"}', plain)[0] == 403
    assert refused(service, "/v1/models/shop:rollback", b"", plain)[0] == 403
    other = serve("shop", token=f"b-{token}", admin_token=f"b-{admin}")  # after a change the old ones are worth nothing
    for old in (token, admin):
        assert refused(other, "/v1/recommend", body, JSON | {"Authorization": f"Bearer {old}"})[0] == 401


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
FIELDS = (
    "query", "features", "history", "k", "allow", "deny", "where", "rules", "why", "item", "pairs", "rows", "side", "events",
    "items", "model",
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(call=st.sampled_from(CALLS), body=st.dictionaries(st.sampled_from(FIELDS), ANY, max_size=4) | ANY)
def test_no_json_is_answered_with_a_failure(service: Asked, call: str, body: Any) -> None:
    status, content, _ = service.send("POST", f"/v1/{call}", json.dumps(body).encode("utf-8", "surrogatepass"), JSON)
    assert status < 500, content


def test_settings_refuse_what_is_not_safe() -> None:
    from towerkit.core.errors import SpecError
    from towerkit.serving.settings import Settings
    from towerkit.serving.sources import source_of

    with pytest.raises(SpecError, match=r"needs a token; received the host '0\.0\.0\.0'"):
        Settings(host="0.0.0.0")  # noqa: S104 - that is what is refused
    assert Settings(host="0.0.0.0", token="x" * 16).token  # noqa: S104
    with pytest.raises(SpecError, match="16 to 256"):
        Settings(token="short")  # noqa: S106 - that is what is refused
    with pytest.raises(SpecError, match="another one"):
        Settings(token="x" * 16, admin_token="x" * 16)
    assert "x" * 16 not in repr(Settings(token="x" * 16))
    for name in ("Shop=a", ".hidden=a", "a/b=c", "../up=c", "=c", "a" * 65 + "=c"):
        with pytest.raises(SpecError, match="up to 64"):
            source_of(name)
