"""Where the pages of the documentation lie on this machine: errors name one."""

from __future__ import annotations

from pathlib import Path


def page_path(name: str) -> str | None:
    """The file of a page, as short as it can be said from here; None where this installation has none.

    Args:
        name: Of the page, without its ending.

    Example:
        >>> page_path("a page that nobody wrote") is None
        True
    """
    package = Path(__file__).resolve().parent
    folders = (
        package / "docs",
        package.parents[1] / "docs",
    )  # an installed package has it inside, a checkout beside src
    found = next((folder / f"{name}.md" for folder in folders if (folder / f"{name}.md").is_file()), None)
    if found is None:
        return None
    here = Path.cwd()
    return str(found.relative_to(here) if found.is_relative_to(here) else found)
