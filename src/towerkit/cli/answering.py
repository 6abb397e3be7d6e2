"""Commands that answer raw rows: recommend, similar, embed, predict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from towerkit.cli.app import AsJson, Out, RunPath, app, check_out, give, print_json
from towerkit.cli.scaling import Workers, check_workers, embed_folder
from towerkit.core.errors import SpecError

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

Ranking = Annotated[
    str | None,
    typer.Option(
        "--ranking", help="Of a joint model: the column of the candidates that are asked for.", show_default=False
    ),
]


def opened_run(run: Path, ranking: str | None) -> Any:
    from towerkit.run import Run

    opened = Run.load(run)
    return opened if ranking is None else opened.ranking(ranking)


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
    ranking: Ranking = None,
    index: Annotated[
        Path | None,
        typer.Option("--index", help="Search this index, see 'towerkit index'.", show_default=False),
    ] = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Recommend candidates for a known query, raw query rows, a history, or everyone; or queries for new candidates."""
    check_out(out)
    if sum([*(given is not None for given in (query, rows, history, candidates)), everyone]) != 1:
        raise SpecError("recommend needs exactly one of --query, --rows, --history, --candidates and --all.")
    opened = opened_run(run, ranking)
    if index is not None and (everyone or candidates is not None):
        raise SpecError("--index is searched for --query, --rows and --history; --all and --candidates rank exactly.")
    choice: dict[str, Any] = {"allow": _keys(allow), "deny": _keys(deny), "where": where}
    if candidates is not None:
        if not exclude_seen or any(given is not None for given in choice.values()):
            raise SpecError(
                "--candidates asks for queries; --allow, --deny, --where and --include-seen choose candidates."
            )
        give(opened.queries_for(str(candidates), k=k), out, as_json)
        return
    choice["exclude_seen"] = exclude_seen
    if everyone:
        _recommend_all(opened, out, as_json, k=k, **choice)
        return
    events = None if history is None else _split(history)
    answers = opened.recommend(
        query, rows=None if rows is None else str(rows), history=events, k=k, index=index, **choice
    )
    give(answers, out, as_json)


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
        print_json(told | ({"notes": list(written.notes)} if written.notes else {}))
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
    ranking: Ranking = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Show the candidates most like a known one, or the queries most like a known query."""
    check_out(out)
    if (item is None) == (query is None):
        raise SpecError("similar needs exactly one of --item and --query.")
    found = opened_run(run, ranking).similar(item, query=query, k=k, allow=_keys(allow), deny=_keys(deny), where=where)
    give(found, out, as_json)


@app.command()
def embed(
    run: RunPath,
    rows: Annotated[
        str | None,
        typer.Argument(
            help="A file of raw rows, or of keys; all known keys of a side when not given.", show_default=False
        ),
    ] = None,
    side: Annotated[
        Literal["query", "candidate"] | None, typer.Option("--side", help="Of a two_tower.", show_default=False)
    ] = None,
    ranking: Ranking = None,
    out: Out = None,
    on: Annotated[
        str | None,
        typer.Option(
            "--on", help="A folder of Parquet by workers on Ray: 'local', or a cluster's address.", show_default=False
        ),
    ] = None,
    workers: Workers = 1,
    as_json: AsJson = False,
) -> None:
    """Write vectors: of keys or raw rows of one side, or what the backbone of a tower model makes of raw rows.

    A folder of Parquet files becomes one of vectors where --out names a folder: file by file, also by --workers --on a cluster.
    """
    check_workers(on, workers)
    if on is not None or (out is not None and not out.suffix and rows is not None and _is_folder(rows)):
        if rows is None or out is None:
            raise typer.BadParameter("--on embeds a folder of Parquet files into another: give ROWS and --out FOLDER.")
        embed_folder(on, workers, run, rows, out, side=side, ranking=ranking, as_json=as_json)
        return
    check_out(out)
    give(opened_run(run, ranking).embed(rows, side=side), out, as_json)


def _is_folder(rows: str) -> bool:
    from towerkit.data.stores import is_store

    return is_store(rows) or Path(rows).is_dir()


@app.command()
def predict(
    run: RunPath,
    rows: Annotated[Path, typer.Argument(help="A file of raw rows.", show_default=False)],
    ranking: Ranking = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Predict every task of raw rows; a two-tower scores pairs."""
    check_out(out)
    give(opened_run(run, ranking).predict(str(rows)), out, as_json)


def _split(keys: str) -> list[str]:
    return [key.strip() for key in keys.split(",") if key.strip()]


def _keys(given: str | None) -> list[str] | str | None:
    """Comma-separated keys, or the path of a file: one that exists, or is called like one."""
    from towerkit.data.locations import FORMATS, extension

    if given is None or "::" in given or Path(given).is_file() or extension(given) in FORMATS:
        return given
    return _split(given)
