"""Bring the emoji data set into the one table that ``examples/emoji.yaml`` reads: python tools/emoji_table.py FOLDER TABLE.jsonl

``FOLDER`` holds ``emoji.json`` (of the npm package emoji-datasource-twitter) and ``emojilib-en-US.json`` (of emojilib). A row is an
emoji without its skin tones: the file of its picture, its name, category and sub-category, and its keywords. The first keyword of
emojilib is the name once more, so it is left out; an emoji that emojilib does not know has no keywords.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_VARIATION = "\ufe0f"
"""Says that a sign is drawn as a picture; emojilib writes it where it likes."""


def rows_of(folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of the table, in the order of the data set."""
    keywords = json.loads((folder / "emojilib-en-US.json").read_text(encoding="utf-8"))
    known = {sign.replace(_VARIATION, ""): words for sign, words in keywords.items()}
    for each in json.loads((folder / "emoji.json").read_text(encoding="utf-8")):
        sign = "".join(chr(int(code, 16)) for code in each["unified"].split("-"))
        words = known.get(sign.replace(_VARIATION, ""))
        yield {
            "image": each["image"],
            "name": each["name"].lower(),
            "category": each["category"],
            "subcategory": each["subcategory"],
            "keywords": None if words is None else words[1:],
        }


def main(folder: Path, table: Path) -> None:
    """Write the table."""
    rows = list(rows_of(folder))
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    print(f"{len(rows):,} rows, {sum(row['keywords'] is None for row in rows)} without keywords: {table}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
