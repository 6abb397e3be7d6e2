"""Scripts that tests of this folder start need more than the tests themselves."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore = [] if find_spec("torchrec") else ["torchrec_worker.py"]
