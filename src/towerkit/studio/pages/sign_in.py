"""The page that asks for the token, where the studio has one."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from towerkit.reporting.markup import element, text
from towerkit.studio.frame import View


class SignIn(BaseModel):
    """What the page sends."""

    model_config = ConfigDict(extra="forbid")
    token: str = Field(max_length=256)


def sign_in_page() -> View:
    """One field."""
    field = {"type": "password", "id": "token", "name": "token", "autocomplete": "current-password", "required": ""}
    form = element(
        "form",
        {"id": "sign-in"},
        element(
            "div", {"class": "field"}, element("label", {"for": "token"}, text("Token")), element("input", dict(field))
        ),
        element("button", {"class": "main"}, text("Open the studio")),
        element("div", {"role": "status", "id": "told"}),
    )
    return View("Who is there?", form, about="This studio was started with a token.", scripts=("session",), here="")
