"""Put the demo's real output into README.md, between its two markers: no figure there is typed by hand.

Run it with the environment of this repository: ``.venv/bin/python tools/update_readme.py``.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
MARKERS = "<!-- demo output -->", "<!-- end of demo output -->"


def main() -> None:
    """Run the demo in an empty folder and paste what it prints on standard output."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "towerkit", "demo", "--run", "towerkit-demo"]
        finished = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)  # noqa: S603 - our own words
    lines = [line.rstrip() for line in finished.stdout.strip().splitlines()]
    start, end = MARKERS
    block = f"{start}\n\n```text\n" + "\n".join(lines) + f"\n```\n\n{end}"
    text = README.read_text(encoding="utf-8")
    replaced = re.sub(f"{re.escape(start)}.*{re.escape(end)}", lambda _: block, text, flags=re.DOTALL)
    README.write_text(replaced, encoding="utf-8")


if __name__ == "__main__":
    main()
