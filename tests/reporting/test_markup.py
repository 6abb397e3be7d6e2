"""Texts of data never become markup.

- Whatever text goes in, a parser finds the elements that were asked for and no other, with the text whole in them.
- Signs that XML may not hold are replaced; signs that turn the direction of writing stay within their element.
- Attributes keep quotes, and numbers lose what nobody sees.
"""

from __future__ import annotations

from html.parser import HTMLParser
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from towerkit.reporting.markup import element, foreign, joined, text


class _Seen(HTMLParser):
    """The elements and the texts of a piece of HTML."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.words += data


@given(st.text(max_size=60), st.text(max_size=60))
def test_a_text_stays_a_text(words: str, attribute: str) -> None:
    made = element("p", {"title": attribute}, text("a"), foreign(words))
    seen = _Seen()
    seen.feed(made)
    seen.close()
    assert [tag for tag, _ in seen.tags] == ["p", "bdi"]
    assert seen.words.replace("\r", "\n")[1:] == "".join(_legal(each) for each in words).replace("\r", "\n")
    root = ElementTree.fromstring(made)  # noqa: S314  (our own text)
    assert root.tag == "p" and root[0].tag == "bdi"


def _legal(sign: str) -> str:
    code = ord(sign)
    is_legal = sign in "\t\n\r" or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code >= 0x10000
    return sign if is_legal else "\ufffd"


def test_hostile_texts() -> None:
    assert text("<script>alert('x')</script>") == "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;"
    assert text("a\x00b\ud800") == "a\ufffdb\ufffd"
    assert foreign("\u202eevil") == "<bdi>\u202eevil</bdi>"
    assert element("a", {"href": '" onclick="x'}) == '<a href="&quot; onclick=&quot;x"></a>'


def test_attributes_and_empty_elements() -> None:
    assert element("rect", {"x": 1.0, "y": 2.345, "class": None}) == '<rect x="1" y="2.3"/>'
    assert joined([text("a"), text("b")], ", ") == "a, b"
