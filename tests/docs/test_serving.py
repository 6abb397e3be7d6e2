"""The page on serving: every call of it is made, in its order, against a service of the Run of the page on answers.

- Each curl line is answered with 200; those whose effect the page tells have it.
- The block of Python runs as it stands.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import yaml

import towerkit as tk

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "serving.md").read_text(encoding="utf-8")
CURL = re.compile(r"^curl .*$", re.MULTILINE)
ADMIN = "admin-token-of-a-test"

pytestmark = pytest.mark.skipif(importlib.util.find_spec("fastapi") is None, reason="needs towerkit[serve]")


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Generator[Any]:
    """The service of the page."""
    from tests.serving.conftest import started

    from towerkit.serving.settings import Settings

    root = tmp_path_factory.mktemp("serving")
    found = re.search(
        r"^```yaml spec=shop.yaml\n(.*?)^```$", (DOCS / "answers.md").read_text(), re.DOTALL | re.MULTILINE
    )
    assert found is not None
    spec = tk.ExperimentSpec.model_validate(yaml.safe_load(found[1]))
    for name, seed in (("shop", 0), ("candidates/shop-v2", 1)):
        training = spec.training.model_copy(update={"seed": seed})
        (root / name).parent.mkdir(exist_ok=True)
        tk.fit(spec.model_copy(update={"training": training}).model_dump(), run=root / name)
    settings = Settings(port=0, events=str(root / "events.db"), admin_token=ADMIN, candidates=root / "candidates")
    service = started({"shop": root / "shop"}, settings)
    yield service
    service.stop()


def sent(asked: Any, line: str) -> Any:
    """Make the call of a curl line."""
    words = shlex.split(line.replace("$TOWERKIT_ADMIN_TOKEN", ADMIN))
    method, body, headers, url = "GET", None, {}, ""
    rest = iter(words[1:])
    for word in rest:
        if word == "-X":
            method = next(rest)
        elif word == "-H":
            name, _, value = next(rest).partition(": ")
            headers[name] = value
        elif word == "-d":
            body = json.loads(next(rest))
            method = "POST" if method == "GET" else method
        elif word != "-s":
            url = word
    assert url.startswith("localhost:8000/"), line
    status, content, _ = asked.send(method, url.removeprefix("localhost:8000"), body, headers)
    assert status == 200, f"{line}: {content}"
    return content


def test_every_call_of_the_page_is_answered(asked: Any) -> None:
    from towerkit.serving import requests

    found = {line: sent(asked, line) for line in CURL.findall(PAGE)}
    assert len(found) >= 18
    by_path = {path: [content for line, content in found.items() if path in line] for path in ("users", "items", ":")}
    assert by_path["users"] == [{"events": 1}]
    assert [content["candidates"] for line, content in found.items() if "/v1/items" in line] == [81, 81, 80]
    newcomer = next(content for line, content in found.items() if '"query": "somebody-new", "k"' in line)
    assert newcomer["cold"] is False
    assert {share["item"] for share in newcomer["items"][0]["why"]["history"]} == {"p0003"}
    ruled = next(content for line, content in found.items() if '"rules"' in line)
    assert ruled["items"][1]["item"] == "p0009"
    swaps = [content for line, content in found.items() if "/models/shop:" in line]
    assert swaps[0]["model_version"] == swaps[1]["previous_version"] != swaps[1]["model_version"]
    shadow = re.search(r"^```json\n(\{\"candidate\".*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert shadow is not None
    assert requests.Swap.model_validate_json(shadow[1]).shadow == requests.Shadow(
        share=0.1
    )  # the others as they are by default
    block = re.search(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert block is not None
    script = block[1].replace("127.0.0.1:8000", f"127.0.0.1:{asked.port}")
    told = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)
    assert told.stdout.startswith("['p"), told.stderr
