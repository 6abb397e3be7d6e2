"""The command that puts a Run's candidates into an index."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from towerkit.cli.answering import Ranking, opened_run
from towerkit.cli.app import AsJson, RunPath, app, print_json
from towerkit.cli.scaling import Workers, check_workers
from towerkit.core.errors import SpecError

if TYPE_CHECKING:
    from towerkit.index.filling import Fill


@app.command()
def index(
    run: RunPath,
    out: Annotated[
        Path | None, typer.Option("--out", help="The folder to write; without it, only measure.", show_default=False)
    ] = None,
    kind: Annotated[
        Literal["exact", "faiss", "milvus"] | None,
        typer.Option("--kind", help="The sort of index.", show_default=False),
    ] = None,
    factory: Annotated[
        list[str] | None,
        typer.Option("--factory", help="Of faiss: HNSW32, 'IVF1024,PQ16', …; may be given again.", show_default=False),
    ] = None,
    recall: Annotated[
        float | None,
        typer.Option(
            "--recall",
            min=0.0,
            max=1.0,
            help="Try several; take the fastest that finds this share.",
            show_default=False,
        ),
    ] = None,
    ef_search: Annotated[
        int | None, typer.Option("--ef-search", min=1, help="Of HNSW: nodes that a search keeps.", show_default=False)
    ] = None,
    ef_construction: Annotated[
        int | None,
        typer.Option("--ef-construction", min=1, help="Of HNSW: nodes kept while building.", show_default=False),
    ] = None,
    nprobe: Annotated[
        int | None, typer.Option("--nprobe", min=1, help="Of IVF: lists that a search visits.", show_default=False)
    ] = None,
    dim: Annotated[
        int | None,
        typer.Option("--dim", min=1, help="Width that faiss's vectors are projected to.", show_default=False),
    ] = None,
    refine: Annotated[
        int | None, typer.Option("--refine", min=1, help="Proposals of faiss for each hit.", show_default=False)
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Hits that recall looks at.")] = 20,
    queries: Annotated[int, typer.Option("--queries", min=1, help="Known queries to measure with.")] = 1000,
    without_queries: Annotated[
        bool, typer.Option("--without-queries", help="Leave out the queries' vectors, which a service starts with.")
    ] = False,
    ranking: Ranking = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing index.")] = False,
    on: Annotated[
        str | None,
        typer.Option("--on", help="Fill IVF by workers on Ray: 'local', or a cluster's address.", show_default=False),
    ] = None,
    workers: Workers = 1,
    as_json: AsJson = False,
) -> None:
    """Build an index of a Run's candidates; measure the recall, latency and memory of approximate ones."""
    from towerkit import console

    settings = {
        "ef_construction": ef_construction,
        "ef_search": ef_search,
        "nprobe": nprobe,
        "dim": dim,
        "refine": refine,
    }
    specs = _specs(kind, factory or [], settings, recall)
    if out is None and not specs and recall is None:
        raise SpecError("index needs --out, the folder to write; or --recall or --factory, to measure only.")
    with _filling(on, workers, specs, recall) as fill:
        built = opened_run(run, ranking).index(
            specs,
            out=out,
            recall=recall,
            k=k,
            queries=queries,
            with_queries=not without_queries,
            overwrite=overwrite,
            fill=fill,
            tell=console.note,
        )
    if as_json:
        told = {"candidates": len(built.index), "dim": built.index.dim, "space": built.index.space, **built.measured}
        print_json(
            {"run": str(run), "out": None if out is None else str(out), "index": built.spec.model_dump(), **told}
        )
        return
    if built.trials:
        console.show_trials(built.trials, built.measured["picked"], built.measured["k"], built.measured["queries"])
    if out is not None:
        console.say(
            f"{len(built.index):,} candidates written to {out}; search them: towerkit recommend {run} --index {out}"
        )


@contextlib.contextmanager
def _filling(on: str | None, workers: int, specs: list[Any], recall: float | None) -> Iterator[Fill]:
    """Who puts the vectors into an index."""
    from towerkit.index.filling import alone, by_shards
    from towerkit.index.specs import FaissIndexSpec

    check_workers(on, workers)
    if on is None:
        yield alone
        return
    names = [each.factory if isinstance(each, FaissIndexSpec) else each.kind for each in specs]
    lacking = [name for name in names if "IVF" not in name] or ([] if names or recall is not None else ["exact"])
    if lacking:
        raise SpecError(
            f"--on has inverted lists filled by workers, each with some of the vectors; '{lacking[0]}' has none. Choose IVF, as in "
            "--factory IVF1024,Flat, or leave out --on."
        )
    from towerkit.scale.pieces import workers_of

    with workers_of(on, workers) as each:
        yield by_shards(each)


def _specs(kind: str | None, factories: list[str], settings: dict[str, Any], recall: float | None) -> list[Any]:
    """What the options name: nothing, one index, or several of faiss."""
    from towerkit.core.spec import parse
    from towerkit.index.specs import IndexChoice

    given = {name: value for name, value in settings.items() if value is not None}
    if kind == "exact" and (factories or given or recall is not None):
        raise SpecError(
            "--kind exact compares every candidate: it has no factory, no settings, and nothing to choose by recall."
        )
    if kind is None and given and not factories:
        raise SpecError(
            "--ef-search, --nprobe, --dim and --refine are settings of faiss: say of which, with --factory HNSW32."
        )
    if kind == "faiss" and not factories and (recall is None or given):
        factories = ["HNSW32"]
    wanted = [{"kind": "faiss", "factory": each, **given} for each in factories]
    if kind in ("exact", "milvus"):
        wanted = [{"kind": kind, **given}]
    return [parse(IndexChoice, {"index": each}, "the index").index for each in wanted]
