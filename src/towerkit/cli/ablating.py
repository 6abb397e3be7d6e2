"""``towerkit ablate``: which tower of a Run earns its cost?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from towerkit.cli.app import AsJson, Base, RunPath, app, print_json
from towerkit.core.errors import SpecError


@app.command()
def ablate(
    run: RunPath,
    mode: Annotated[
        list[str] | None,
        typer.Option(
            "--mode",
            help="absent, mean, permute or retrain; may be given again. absent and permute when not given.",
            show_default=False,
        ),
    ] = None,
    tower: Annotated[
        list[str] | None,
        typer.Option("--tower", help="Only without this one; may be given again.", show_default=False),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric", help="Only this figure, decided on beforehand; may be given again.", show_default=False
        ),
    ] = None,
    columns: Annotated[bool, typer.Option("--columns", help="Also shuffle each column of each tower alone.")] = False,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Shuffles that are averaged.")] = 3,
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="With --mode retrain: seeds, such as 0,1.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Keep what is found in this .json; trainings again are kept beside it."),
    ] = None,
    base: Base = Path(),
    as_json: AsJson = False,
) -> None:
    """Measure a Run without each of its towers and every subset: what each adds, what it costs, and a verdict for each."""
    import json

    from towerkit import console
    from towerkit.ablation.study import ablate as study
    from towerkit.cli.ablation_tables import show_ablation
    from towerkit.run import Run
    from towerkit.storage.atomic import atomic_write_bytes

    if out is not None and out.suffix != ".json":
        raise SpecError(f"--out is a .json file; received {out}.")
    modes = mode or ["absent", "permute"]
    if out is None and "retrain" in modes:
        console.note("note: without --out no training again is kept, and a second call would begin at the start")
    with console.Counter("towers taken away") as counter, console.ConsoleProgress() as progress:
        found = study(
            Run.load(run),
            modes=modes,
            towers=tower or (),
            metrics=metric or (),
            repeats=repeats,
            columns=columns,
            seeds=numbers(seeds),
            kept=None if out is None else out.with_name(f"{out.name}.parts"),
            base=base,
            progress=progress,
            tell=lambda _, done, total: counter.tell(done, total),
            say=console.note,
        )
    content = found.as_dict()
    if out is not None:
        atomic_write_bytes(out, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    if as_json:
        print_json(content)
        return
    show_ablation(found, console.out)
    if out is not None:
        console.say(f"kept in {out}")


def numbers(told: str | None) -> list[int]:
    """``0,1`` to numbers.

    Args:
        told: On the command line.

    Raises:
        SpecError: If one is none.
    """
    try:
        return [int(each) for each in (told or "").split(",") if each.strip()]
    except ValueError:
        raise SpecError(f"--seeds are whole numbers with commas between, such as 0,1; received '{told}'.") from None
