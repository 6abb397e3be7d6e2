"""The page about a running service: what it serves and counted, and changes for who knows its admin token.

- Models, versions and times are those that the service tells; one that is not there is said to be not there.
- Another token is refused as the service refuses it; with the right one a Run is swapped in and rolled back.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from tests.serving.conftest import Asked, started
from tests.studio.conftest import open_studio

from towerkit.core.errors import SpecError
from towerkit.serving.settings import Settings
from towerkit.studio.service import Latency, ServiceLink

ADMIN = "the-admin-token-of-a-test"


@pytest.fixture
def both(root: Path) -> Generator[tuple[Asked, Asked]]:
    """A service of one Run, and the studio that shows it."""
    service = started({"live": root / "deep" / "ids"}, Settings(port=0, admin_token=ADMIN, candidates=root))
    studio = open_studio(root, service=f"http://127.0.0.1:{service.port}")
    yield service, studio
    studio.stop()
    service.stop()


def test_a_service(both: tuple[Asked, Asked]) -> None:
    service, studio = both
    for _ in range(3):
        service.post("/v1/recommend", query="u0001")
    version = service.send("GET", "/v1/models")[1]["models"][0]["model_version"]
    page = studio.send("GET", "/service")[1]
    assert version in page and "/v1/recommend" in page and "Answers within a time" in page
    assert ">Service</a>" in studio.send("GET", "/")[1]
    change = {"model": "live", "candidate": "shop"}
    status, refused, _ = studio.send("POST", "/service/change", {**change, "token": "another-token-of-a-test"})
    assert status == 403 and "admin token" in refused["error"]["rule"]
    told = studio.post("/service/change", **change, token=ADMIN)
    assert told["previous_version"] == version != told["model_version"]
    assert told["model_version"] in studio.send("GET", "/live/service")[1]["html"]
    assert studio.post("/service/change", model="live", token=ADMIN)["model_version"] == version


def test_no_service(root: Path, studio: Asked) -> None:
    assert studio.send("GET", "/service")[0] == 404  # none was named
    alone = open_studio(root, service="http://127.0.0.1:9")
    try:
        assert "does not answer" in alone.send("GET", "/service")[1]
    finally:
        alone.stop()
    with pytest.raises(SpecError, match="ftp://nowhere"):
        ServiceLink("ftp://nowhere")


def test_the_bound_that_so_many_came_within() -> None:
    found = Latency("/v1/recommend", 10, 0, 1.0, ((1.0, 0.4), (2.0, 0.9), (5.0, 1.0)))
    assert [found.within(share) for share in (0.3, 0.5, 0.95)] == [1.0, 2.0, 5.0]
    assert Latency("x", 1, 0, 1.0, ((1.0, 0.4),)).within(0.5) == float("inf")
