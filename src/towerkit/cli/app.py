"""The command line's program, the words that its commands share, and how each of them answers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from towerkit._version import __version__

if TYPE_CHECKING:
    import pyarrow as pa


app = typer.Typer(
    name="towerkit",
    help="From tables to a recommender, search engine, ad ranker or multimodal classifier.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

RunPath = Annotated[Path, typer.Argument(help="A Run folder.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Out = Annotated[Path | None, typer.Option("--out", help="Write the rows to this .parquet, .csv or .arrow file.")]
Base = Annotated[Path, typer.Option("--base", help="The folder that relative paths of the Run's data start from.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing Run.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"towerkit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


def described(run: Any) -> dict[str, Any]:
    """A Run in plain data: the shape of ``evaluate --json``, its baselines, and where it is."""
    return {
        "run": str(run.path),
        "kind": run.kind,
        **run.evaluation.as_dict(),
        "baselines": {name: evaluation.as_dict()["metrics"] for name, evaluation in run.baselines.items()},
        **({} if run.fusions is None else {"fusions": run.fusions.as_dict()}),
    }


def run_and_data(run: Path, base: Path, in_python: str) -> tuple[Any, Any]:
    """A Run, and the data that its spec says, read again.

    Args:
        run: Its folder.
        base: The folder that relative paths of the data start from.
        in_python: What takes tables in memory.

    Raises:
        SpecError: If the Run was trained on a table in memory.
    """
    from towerkit.core.errors import SpecError
    from towerkit.core.spec import parse
    from towerkit.data.dataset import read_dataset
    from towerkit.run import Run
    from towerkit.spec import ExperimentSpec

    opened = Run.load(run)
    if "data" not in opened.spec:
        raise SpecError(f"{run} was trained on a table in memory; use {in_python} in Python.")
    spec = parse(ExperimentSpec, dict(opened.spec), str(run / "spec.json"))
    return opened, read_dataset(spec.data, base=base.resolve(), seed=spec.training.seed)


def show_run(run: Any) -> None:
    """Print what was measured of a Run, beside its baselines."""
    from towerkit import console
    from towerkit.evaluation.result import protocol_line

    console.show_metrics(run.evaluation, run.baselines, name=run.kind)
    console.show_segments(run.evaluation, run.baselines, name=run.kind)
    console.show_tasks(run.evaluation)
    if run.fusions is not None:
        console.show_fusions(run.fusions)
    console.say(protocol_line(run.evaluation.protocol))


def check_out(out: Path | None) -> None:
    """Refuse a file that cannot be written before an hour of answers is made for it."""
    from towerkit.data.writers import check_writable

    if out is not None:
        check_writable(out)


def give(answers: pa.Table, out: Path | None, as_json: bool) -> None:
    """Write, print or show answers, and what is to be noted about them."""
    from towerkit import console
    from towerkit.data.writers import write_table
    from towerkit.recommend.notes import notes_of

    if out is not None:
        write_table(answers, out)
    notes = notes_of(answers)
    if as_json:
        told = {"rows": answers.to_pylist()} if out is None else {"out": str(out), "rows": answers.num_rows}
        print_json(told | ({"notes": notes} if notes else {}))
        return
    if out is not None:
        console.say(f"{answers.num_rows:,} rows written to {out}")
    else:
        console.show_table(answers)
    for text in notes:
        console.note(f"note: {text}")


def print_json(content: Any) -> None:
    """One JSON object on standard output."""
    can_write_all = (sys.stdout.encoding or "").lower().startswith("utf")
    typer.echo(json.dumps(content, ensure_ascii=not can_write_all, default=str))
