"""``towerkit encoder``: pretrained encoders as folders of plain files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from towerkit.cli.app import AsJson, app, print_json

encoder_app = typer.Typer(help="Pretrained encoders: convert weights of old, once.", no_args_is_help=True)
app.add_typer(encoder_app, name="encoder")


@encoder_app.callback()
def encoders() -> None:
    """Pretrained encoders: convert weights of old, once."""


@encoder_app.command()
def convert(
    weights: Annotated[Path, typer.Argument(help="A state dict that torch.save wrote.", show_default=False)],
    to: Annotated[Path, typer.Option("--to", help="The folder to write; must not exist.", show_default=False)],
    kind: Annotated[str, typer.Option("--kind", help="The network whose weights they are.")] = "efficientnet_lite0",
    as_json: AsJson = False,
) -> None:
    """Write an encoder's folder (safetensors and JSON) from a file of weights; tensors only, no code in it is run."""
    from towerkit import console
    from towerkit.pretrained.convert import convert_encoder

    count = convert_encoder(weights, to, kind)
    if as_json:
        print_json({"out": str(to), "kind": kind, "tensors": count})
        return
    console.say(f"{count} tensors of {kind} written to {to}; use it as encoder: {{kind: pretrained, path: {to}}}")
