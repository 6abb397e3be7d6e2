"""What a serving process is told at its start: where it listens, whom it trusts, and how much it takes at a time."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from towerkit.core.errors import SpecError

if TYPE_CHECKING:
    from towerkit.serving.requests import Shadow

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
"""What a model, a candidate or a pipeline may be called; the whole of it."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Limits:
    """How much one request, and all of them together, may ask for."""

    body_bytes: int = 1_000_000
    headers_s: float = 10.0
    """Time in which the headers of a request must have come, the first ones after a connection was made."""
    body_s: float = 10.0
    """Time in which a body must have come."""
    unread_s: float = 30.0
    """Time for which a caller may leave its answers unread."""
    waiting: int = 256
    """Requests that wait for the inference thread; the next one is told to come back (429)."""
    batch: int = 64
    """Waiting requests that are answered together."""
    deadline_s: float = 2.0
    """A request that has waited so long is answered with 503 in place of being computed."""
    connections: int = 512
    """As many requests may be under way, and connections be open; of more, the one that has been idle for longest is closed."""
    drain_s: float = 20.0
    """Time for what is under way when the process is told to stop."""


@dataclass(frozen=True)
class Settings:
    """One serving process."""

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)
    """Whoever asks must show it; None lets everyone who reaches the port ask."""
    admin_token: str | None = field(default=None, repr=False)
    """For swaps; None refuses them."""
    hosts: tuple[str, ...] = ()
    """Names, beside the loopback ones and ``host``, under which browsers and proxies may call the service."""
    events: str | None = None
    """Where events are kept: the path of a SQLite file, or a PostgreSQL address; None takes none."""
    candidates: Path | None = None
    """The folder whose Runs may take the place of one that is served."""
    watch: bool = False
    """Take a Run in when the link that the service was started with points to another one."""
    shadow: Shadow | None = None
    """What a candidate must show on copies of requests, where a swap says nothing of it; None shows it none."""
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        if self.host not in LOOPBACK and self.token is None:
            raise SpecError(
                f"A service that others can reach needs a token; received the host {self.host!r} and none. Set "
                "TOWERKIT_TOKEN (or --token-file), or listen on 127.0.0.1 behind a proxy that asks who is there."
            )
        for name, token in (("token", self.token), ("admin token", self.admin_token)):
            if token is not None and not re.fullmatch(r"[!-~]{16,256}", token):
                raise SpecError(
                    f"The {name} has 16 to 256 printable ASCII characters without spaces; received one of {len(token)}. "
                    'Make one: python -c "import secrets; print(secrets.token_urlsafe(32))".'
                )
        if self.token is not None and self.token == self.admin_token:
            raise SpecError("The admin token is another one than the token; received the same. Make two.")


def same_token(given: str, expected: str) -> bool:
    """Whether two tokens are equal, in a time that says nothing about where they differ.

    Example:
        >>> same_token("guess", "secret"), same_token("secret", "secret")
        (False, True)
    """
    return hmac.compare_digest(_digest(given), _digest(expected))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def check_name(name: str, what: str = "The name of a served model") -> str:
    """The name, if it is one.

    Args:
        name: What was given.
        what: What it names, for the message.

    Raises:
        SpecError: If it is none.

    Example:
        >>> check_name("shop-v2")
        'shop-v2'
    """
    if not NAME.fullmatch(name):
        raise SpecError(
            f"{what} has up to 64 of a-z, 0-9, '.', '_' and '-', a letter or digit first; received {name!r}. "
            "Give it one: NAME=FOLDER."
        )
    return name
