"""What keeps a reader out of a page: axe-core looks at it in a browser, by the rules of WCAG 2.2 up to level AA.

axe-core is a file of JavaScript that npm brings (``make test`` asks for it); it is read from the environment's own
``node_modules``, or from where ``TOWERKIT_AXE`` says.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from towerkit.testing.browser import Page

_TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")


def axe() -> Path | None:
    """The file of axe-core; None where it is not to be had."""
    path = Path(os.environ.get("TOWERKIT_AXE") or Path(sys.prefix, "node_modules", "axe-core", "axe.min.js"))
    return path if path.is_file() else None


def violations(page: Page) -> list[str]:
    """What axe-core finds wrong with the page that is open, a line for each place; none where all is well.

    Args:
        page: Loaded, and changed as the test wants it.

    Raises:
        FileNotFoundError: If axe-core is not here.
    """
    path = axe()
    if path is None:
        raise FileNotFoundError("axe-core is not here: make test brings it, where there is npm")
    if page.ask("typeof axe") == "undefined":
        page.ask(path.read_text(encoding="utf-8") + ";0")
    found = page.ask(
        f"axe.run(document, {{runOnly: {json.dumps(_TAGS)}, resultTypes: ['violations']}}).then(found =>"
        "found.violations.flatMap(each => each.nodes.map(node =>"
        "`${each.id}: ${node.target.join(' ')}: ${(node.any.concat(node.all, node.none)[0] || each).message || each.help}`)))"
    )
    return [str(each) for each in found]
