"""The command line. Every command takes ``--json`` for one object on standard output; progress goes to standard error."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from towerkit._version import __version__
from towerkit.core.errors import SpecError, TowerkitError

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


@app.command()
def train(
    spec: Annotated[Path, typer.Argument(help="A spec file; see examples/.", show_default=False)],
    run: Annotated[Path | None, typer.Option("--run", help="The Run folder to write.", show_default=False)] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change the spec: training.epochs=5, update.kind=two_backprop.")
    ] = None,
    overwrite: Overwrite = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an interrupted training of this Run was saved.")
    ] = False,
    base: Annotated[
        Path | None,
        typer.Option("--from", help="Go on from this Run: weights carried over by key.", show_default=False),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it needs: parameters, memory, steps, time. Writes nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train a model of any kind, measure it beside its baselines, and write a Run. Ctrl-C saves and stops."""
    from towerkit import console
    from towerkit.data.dataset import read_dataset
    from towerkit.experiment import estimates_of
    from towerkit.run import Run
    from towerkit.run_writer import train_run
    from towerkit.spec import load_spec
    from towerkit.storage.atomic import check_target
    from towerkit.training.signals import StopSignals

    if run is not None:
        check_target(run, overwrite)
    elif not dry_run:
        raise typer.BadParameter("Missing option '--run'; only --dry-run goes without.")
    experiment = load_spec(spec, settings or ())
    before = None if base is None else Run.load(base)
    dataset = read_dataset(experiment.data, base=spec.resolve().parent, seed=experiment.training.seed)
    if not as_json:
        console.show_dataset(dataset)
    if dry_run:
        found = {name: each.as_dict() for name, each in estimates_of(experiment, dataset).items()}
        _print_json(found) if as_json else console.show_estimates(found)
        return
    assert run is not None
    with console.ConsoleProgress() as progress:
        written, outcome = train_run(
            run,
            experiment,
            dataset,
            progress,
            overwrite=overwrite,
            resume=resume,
            base=before,
            stop=StopSignals(),
            say=console.note,
        )
    if as_json:
        _print_json({**_described(written), "seconds": round(outcome.seconds, 2), "epochs": outcome.history.best_epoch})
        return
    _show_run(written)
    console.say(f"Run: {written.path}")


@app.command()
def evaluate(
    run: RunPath,
    data: Annotated[
        Path | None, typer.Option("--data", help="Measure on these rows instead.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what was measured on the held-out part, or measure on new rows."""
    from towerkit import console
    from towerkit.evaluation.result import protocol_line
    from towerkit.run import Run

    opened = Run.load(run)
    found = opened.evaluate(None if data is None else str(data))
    if as_json:
        _print_json(found.as_dict())
    elif data is None:
        _show_run(opened)
    else:
        console.show_metrics(found, {})
        console.show_segments(found, {})
        console.show_tasks(found)
        console.say(protocol_line(found.protocol))


@app.command()
def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Two or more Runs; the first is what the others are compared with.")
    ],
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric", help="Only this metric, decided on beforehand; may be given again.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare Runs on the same held-out rows: paired differences, intervals, p-values corrected for their number, effects."""
    from towerkit import console
    from towerkit.evaluation.compare import compare_runs
    from towerkit.evaluation.result import protocol_line
    from towerkit.run import Run

    if len(runs) < 2:
        raise SpecError(f"compare needs at least two Runs; received {len(runs)}. Name the second one too.")
    first, *others = [Run.load(path) for path in runs]
    found = compare_runs(first.evaluation, {str(run.path): run.evaluation for run in others}, metrics=metric)
    if as_json:
        described = {path: each.as_dict() for path, each in found.items()}
        content: dict[str, Any] = {"baseline": str(first.path), "protocol": dict(first.evaluation.protocol)}
        content["differences"] = {path: each.pop("metrics") for path, each in described.items()}
        for key in ("segments", "left_out"):
            if any(key in each for each in described.values()):
                content[key] = {path: each.get(key, {}) for path, each in described.items()}
        _print_json(content)
        return
    for path, each in found.items():
        console.show_comparison(each, str(first.path), path)
    console.say(protocol_line(first.evaluation.protocol))
    console.say(console.comparison_line(found))


Many = Annotated[int, typer.Option("-k", min=1, help="How many answers.")]
Allow = Annotated[
    str | None,
    typer.Option("--allow", help="Only these candidates: comma-separated keys, or a file with a column of them."),
]
Deny = Annotated[str | None, typer.Option("--deny", help="None of these candidates: keys or a file, as --allow.")]
Where = Annotated[
    str | None,
    typer.Option("--where", help="Only candidates that hold a condition: 'price < 20 and category == \"books\"'."),
]


@app.command()
def recommend(
    run: RunPath,
    query: Annotated[
        str | None, typer.Option("--query", help="A query key, for example a user id.", show_default=False)
    ] = None,
    rows: Annotated[Path | None, typer.Option("--rows", help="A file of raw query rows.", show_default=False)] = None,
    history: Annotated[
        str | None,
        typer.Option("--history", help="Candidate keys that a new query met, comma-separated.", show_default=False),
    ] = None,
    candidates: Annotated[
        Path | None,
        typer.Option("--candidates", help="A file of new candidate rows: which queries fit them?", show_default=False),
    ] = None,
    everyone: Annotated[
        bool, typer.Option("--all", help="Every known query, into --out; an interrupted call goes on where it was.")
    ] = False,
    k: Many = 10,
    exclude_seen: Annotated[
        bool, typer.Option("--exclude-seen/--include-seen", help="Leave out, or answer too, what the query had.")
    ] = True,
    allow: Allow = None,
    deny: Deny = None,
    where: Where = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Recommend candidates for a known query, raw query rows, a history, or everyone; or queries for new candidates."""
    from towerkit.run import Run

    _check_out(out)
    if sum([*(given is not None for given in (query, rows, history, candidates)), everyone]) != 1:
        raise SpecError("recommend needs exactly one of --query, --rows, --history, --candidates and --all.")
    opened = Run.load(run)
    choice: dict[str, Any] = {"allow": _keys(allow), "deny": _keys(deny), "where": where}
    if candidates is not None:
        if not exclude_seen or any(given is not None for given in choice.values()):
            raise SpecError(
                "--candidates asks for queries; --allow, --deny, --where and --include-seen choose candidates."
            )
        _give(opened.queries_for(str(candidates), k=k), out, as_json)
        return
    choice["exclude_seen"] = exclude_seen
    if everyone:
        _recommend_all(opened, out, as_json, k=k, **choice)
        return
    events = None if history is None else _split(history)
    answers = opened.recommend(query, rows=None if rows is None else str(rows), history=events, k=k, **choice)
    _give(answers, out, as_json)


def _recommend_all(run: Any, out: Path | None, as_json: bool, **settings: Any) -> None:
    from towerkit import console

    if out is None:
        raise SpecError("--all answers every known query: give --out FILE (.parquet, .csv or .arrow) to write them to.")
    with console.Counter("queries answered") as counter:
        try:
            written = run.recommend_all(out, **settings, tell=counter.tell)
        except KeyboardInterrupt:
            console.note(f"Stopped. What is answered stands in {out}.parts: the same command goes on from there.")
            raise
    if written.went_on_after:
        console.note(f"{written.went_on_after:,} queries had been answered by an interrupted call.")
    if as_json:
        told = {"out": str(out), "queries": written.queries, "rows": written.rows}
        _print_json(told | ({"notes": list(written.notes)} if written.notes else {}))
        return
    for text in written.notes:
        console.note(f"note: {text}")
    console.say(f"{written.rows:,} rows for {written.queries:,} queries written to {out}")


@app.command()
def similar(
    run: RunPath,
    item: Annotated[
        str | None,
        typer.Option("--item", "--candidate", help="A candidate key, for example an item id.", show_default=False),
    ] = None,
    query: Annotated[
        str | None, typer.Option("--query", help="A query key: which queries are like it?", show_default=False)
    ] = None,
    k: Many = 10,
    allow: Allow = None,
    deny: Deny = None,
    where: Where = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Show the candidates most like a known one, or the queries most like a known query."""
    from towerkit.run import Run

    _check_out(out)
    if (item is None) == (query is None):
        raise SpecError("similar needs exactly one of --item and --query.")
    found = Run.load(run).similar(item, query=query, k=k, allow=_keys(allow), deny=_keys(deny), where=where)
    _give(found, out, as_json)


@app.command()
def embed(
    run: RunPath,
    rows: Annotated[
        Path | None,
        typer.Argument(
            help="A file of raw rows, or of keys; all known keys of a side when not given.", show_default=False
        ),
    ] = None,
    side: Annotated[
        Literal["query", "candidate"] | None, typer.Option("--side", help="Of a two_tower.", show_default=False)
    ] = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Write vectors: of keys or raw rows of one side, or what the backbone of a tower model makes of raw rows."""
    from towerkit.run import Run

    _check_out(out)
    _give(Run.load(run).embed(None if rows is None else str(rows), side=side), out, as_json)


def _check_out(out: Path | None) -> None:
    """Refuse a file that cannot be written before an hour of answers is made for it."""
    from towerkit.data.writers import check_writable

    if out is not None:
        check_writable(out)


def _split(keys: str) -> list[str]:
    return [key.strip() for key in keys.split(",") if key.strip()]


def _keys(given: str | None) -> list[str] | str | None:
    """Comma-separated keys, or the path of a file: one that exists, or is called like one."""
    from towerkit.data.locations import FORMATS, extension

    if given is None or "::" in given or Path(given).is_file() or extension(given) in FORMATS:
        return given
    return _split(given)


@app.command()
def predict(
    run: RunPath,
    rows: Annotated[Path, typer.Argument(help="A file of raw rows.", show_default=False)],
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Predict every task of raw rows; a two-tower scores pairs."""
    from towerkit.run import Run

    _check_out(out)
    _give(Run.load(run).predict(str(rows)), out, as_json)


@app.command()
def demo(
    run: Annotated[Path, typer.Option("--run", help="Where to write the demo's Runs.")] = Path("towerkit-demo"),
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Train all three model kinds on the bundled synthetic shop, and check that the planted truth is found."""
    from towerkit.demo import run_demo

    found = run_demo(run, overwrite=overwrite, quiet=as_json)
    if as_json:
        _print_json(found)
    if not found["passed"]:
        raise typer.Exit(1)


@app.command()
def doctor(
    path: Annotated[str, typer.Argument(help="A data file, a spec file (.yaml), or a Run folder.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Say what a data file or a spec's data holds before anyone trains on it, or check a Run and replay its golden request."""
    from towerkit import console
    from towerkit.doctor import examine, show_findings

    found = examine(path)
    if as_json:
        _print_json(found)
    else:
        show_findings(found, console.out)
    if found["problems"]:
        raise typer.Exit(1)


data_app = typer.Typer(help="Public data sets: what there is, and fetch one.", no_args_is_help=True)
app.add_typer(data_app, name="data")
DataFolder = Annotated[
    Path | None,
    typer.Option("--to", help="The folder of data sets; $TOWERKIT_DATA or ./data if not given.", show_default=False),
]


@data_app.command("list")
def data_list(to: DataFolder = None, as_json: AsJson = False) -> None:
    """List the public data sets, who gives them out on what terms, and which are there already."""
    from towerkit import console
    from towerkit.data.fetch import default_folder
    from towerkit.data.public_sets import PUBLIC_SETS

    folder = to or default_folder()
    rows = [
        {
            "name": each.name,
            "about": each.about,
            "page": each.page,
            "terms": each.terms,
            "redistribution": each.redistribution,
            "is_there": all((folder / each.name / file.name).is_file() for file in each.files),
        }
        for each in PUBLIC_SETS.values()
    ]
    if as_json:
        _print_json({"folder": str(folder), "sets": rows})
        return
    for row in rows:
        there = f"  (in {folder / str(row['name'])})" if row["is_there"] else ""
        console.say(f"{row['name']}{there}\n  {row['about']}\n  terms: {row['terms']}")
        console.say(f"  passing it on: {row['redistribution']}\n  {row['page']}\n")


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(help="A name that `towerkit data list` shows.", show_default=False)],
    to: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a public data set: shows its terms, resumes, checks every file, overwrites nothing, prints the spec's data part."""
    from dataclasses import asdict

    from towerkit import console
    from towerkit.data.fetch import default_folder, fetch, public_set
    from towerkit.data.http import Policy

    found = fetch(public_set(name), to or default_folder(), policy=Policy(), tell=console.note)
    if as_json:
        _print_json(asdict(found))
        return
    for file in found.files:
        console.say(f"{found.folder}/{file.name}: {file.state}, {file.bytes:,} bytes, compared with {file.checked}")
    console.say(f"\nThe data part of a spec:\n\n{found.snippet}")


@app.command()
def schema(as_json: AsJson = False) -> None:
    """Print the JSON Schema of spec files, for editors that complete and check YAML."""
    from towerkit.spec import ExperimentSpec

    found = ExperimentSpec.model_json_schema()
    typer.echo(json.dumps(found) if as_json else json.dumps(found, indent=2))


def _described(run: Any) -> dict[str, Any]:
    """A Run in plain data: the shape of ``evaluate --json``, its baselines, and where it is."""
    return {
        "run": str(run.path),
        "kind": run.kind,
        **run.evaluation.as_dict(),
        "baselines": {name: evaluation.as_dict()["metrics"] for name, evaluation in run.baselines.items()},
    }


def _show_run(run: Any) -> None:
    from towerkit import console
    from towerkit.evaluation.result import protocol_line

    console.show_metrics(run.evaluation, run.baselines, name=run.kind)
    console.show_segments(run.evaluation, run.baselines, name=run.kind)
    console.show_tasks(run.evaluation)
    console.say(protocol_line(run.evaluation.protocol))


def _give(answers: pa.Table, out: Path | None, as_json: bool) -> None:
    from towerkit import console
    from towerkit.data.writers import write_table
    from towerkit.recommend.notes import notes_of

    if out is not None:
        write_table(answers, out)
    notes = notes_of(answers)
    if as_json:
        told = {"rows": answers.to_pylist()} if out is None else {"out": str(out), "rows": answers.num_rows}
        _print_json(told | ({"notes": notes} if notes else {}))
        return
    if out is not None:
        console.say(f"{answers.num_rows:,} rows written to {out}")
    else:
        console.show_table(answers)
    for text in notes:
        console.note(f"note: {text}")


def _print_json(content: Any) -> None:
    can_write_all = (sys.stdout.encoding or "").lower().startswith("utf")
    typer.echo(json.dumps(content, ensure_ascii=not can_write_all, default=str))


def main() -> None:
    """Run the command line; a problem that towerkit knows ends with its message and status 1, never a traceback."""
    wants_json = "--json" in sys.argv
    _mend_standard_streams()
    status = 0
    try:
        status = app(prog_name="towerkit", standalone_mode=False) or 0
        sys.stdout.flush()
    except TowerkitError as error:
        _fail(type(error).__name__, str(error), wants_json, status=error.status)
    except BrokenPipeError:
        _drop_output()
        sys.exit(1)
    except Exception as error:
        _fail_by(error, wants_json)
    if status == _INTERRUPTED:
        _fail("Interrupted", "stopped by the user", wants_json, status=status)
    sys.exit(status)


_INTERRUPTED = 130


def _fail_by(error: Exception, wants_json: bool) -> None:
    """End with what is no problem of the data: wrong words on the command line, a full disk, a defect."""
    if hasattr(error, "format_message") and hasattr(error, "show"):  # the command line's library, about wrong words
        if wants_json:
            _fail("UsageError", error.format_message(), wants_json, status=2)
        error.show()
        sys.exit(2)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        _drop_output()
        _fail("NoSpace", f"cannot write the answer: {error.strerror}. Free some space.", wants_json)
    if os.environ.get("TOWERKIT_TRACEBACK"):
        raise error
    where = f"{type(error).__name__}: {error}"
    _fail(
        "InternalError",
        f"{where}. This is a defect; TOWERKIT_TRACEBACK=1 shows where, please report it.",
        wants_json,
    )


def _mend_standard_streams() -> None:
    """A closed stream swallows what is written, and a terminal without a sign such as ``·`` gets its code instead."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            try:
                os.fstat(number)
            except OSError:  # else the next file that is opened would get the stream's number
                os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))
        elif name != "stdin" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Nobody takes the rest of the output; Python would complain about it once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(kind: str, message: str, wants_json: bool, status: int = 1) -> None:
    if wants_json:
        with contextlib.suppress(OSError):  # the disk is full, or nobody listens any more
            _print_json({"error": {"type": kind, "message": message}})
            sys.stdout.flush()
    typer.echo(f"error: {message}", err=True)
    sys.exit(status)
