"""The gallery: what people use tower models for, and a project that begins with the example of one."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from towerkit.core.errors import DataError, SpecError, listed, nearest


@dataclass(frozen=True)
class Use:
    """One use, and the files of its example."""

    name: str
    title: str
    specs: tuple[str, ...]
    """Spec files; the first is the one to begin with."""
    twin: str | None = None
    """The same on the bundled shop, which needs no data set."""

    @property
    def files(self) -> tuple[str, ...]:
        """All its spec files, the twin last."""
        return (*self.specs, *([self.twin] if self.twin else []))


def examples_folder() -> Path:
    """Where the examples lie: in an installed package inside it, in a checkout beside ``src``."""
    package = Path(__file__).resolve().parent
    installed = package / "examples"
    return installed if installed.is_dir() else package.parents[1] / "examples"


def uses() -> dict[str, Use]:
    """Every use, by its name, in the order of the gallery."""
    content = tomllib.loads((examples_folder() / "gallery.toml").read_text(encoding="utf-8"))
    return {name: Use(name, each["title"], tuple(each["specs"]), each.get("twin")) for name, each in content.items()}


def begin(folder: Path, like: str) -> list[Path]:
    """Write a new project: the spec files of a use, and a page that says how to go on.

    Args:
        folder: Of the project; it must not exist, or be empty.
        like: The name of a use.

    Returns:
        The files written; the page comes first, then the specs, the one to begin with first.

    Raises:
        SpecError: If there is no such use.
        DataError: If the folder holds something, or cannot be written.

    Example:
        >>> import tempfile
        >>> files = begin(Path(tempfile.mkdtemp()) / "mine", "snacks")
        >>> [each.name for each in files]
        ['README.md', 'shop_joint.yaml']
    """
    known = uses()
    if like not in known:
        raise SpecError(f"There is no example like '{like}'{nearest(like, known)} The uses are {listed(known, 30)}.")
    use = known[like]
    contents = {name: _of_its_own((examples_folder() / name).read_text(encoding="utf-8")) for name in use.files}
    written = {"README.md": _page(folder.name, use, contents), **contents}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise DataError(f"{folder}: holds files already; name a folder that does not exist.")
        for name, text in written.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror}; name another folder.") from error
    return [folder / name for name in written]


def _of_its_own(spec: str) -> str:
    """The text of a spec in a folder of its own: what lay beside the examples' folder lies inside the project."""
    return re.sub(r"examples/(?=[\w/]+\.yaml)", "", spec).replace("../", "")


def _page(project: str, use: Use, contents: dict[str, str]) -> str:
    """The page of a project: what it is, and its commands."""
    first, run = use.specs[0], f"runs/{Path(use.specs[0]).stem}"
    lines = [f"# {project}", "", f"{use.title}. Begun with `towerkit new {project} --like {use.name}`.", ""]
    if any("${TOWERKIT_DATA}" in text for text in contents.values()):
        lines += [
            "The files read data sets below the folder that `TOWERKIT_DATA` names: set it, or write your own paths."
        ]
        if use.twin:
            lines += [f"`{use.twin}` is the same on the bundled shop and needs nothing."]
        lines += [""]
    lines += [
        "```bash",
        f"towerkit doctor {first}",
        f"towerkit train {first} --run {run}",
        f"towerkit report {run}",
        "```",
        "",
    ]
    lines += ["The files:", "", *(f"- `{name}`" for name in contents), ""]
    return "\n".join(lines)
