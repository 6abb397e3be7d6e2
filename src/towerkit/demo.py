"""The demo: three model kinds on the bundled synthetic shop and a service of one, checked against the truth planted in it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from towerkit import console
from towerkit.core.errors import MissingExtraError, RunError
from towerkit.data.dataset import Dataset, read_dataset
from towerkit.evaluation.compare import compare
from towerkit.evaluation.result import protocol_line
from towerkit.experiment import Outcome, train_and_evaluate
from towerkit.run import Run
from towerkit.run_writer import write_run
from towerkit.serving.demonstration import show_service
from towerkit.spec import load_spec
from towerkit.storage.atomic import check_target

LEAST_LIFT = 1.5
"""The two-tower's NDCG@10 over popularity's; the planted preference itself reaches about 3.6 (docs/evaluation.md)."""
LEAST_AUC = 0.88
"""Of ``recommended`` from the review's text and table; a logistic regression on the same columns reaches about 0.91."""

NEW_USER = {"age": 24, "city": "Brackenford", "plan": "free"}
NEW_PRODUCT = {
    "title": "Oak desk lamp with brass arm",
    "description": "A warm reading lamp made of solid oak.",
    "category": "lighting",
    "brand": "Nettlebrook",
    "price": 64.0,
    "color": "forest",
}
REVIEWS: list[dict[str, Any]] = [
    {
        "title": "Well worth it",
        "text": "So happy with the lamp. The workmanship is sturdy, the color even better in person.",
    },
    {"title": None, "text": "Disappointed with this lamp. The finish is really cheaply made. The look is really ugly."},
    {"title": None, "text": None},
]


@dataclass(frozen=True)
class Check:
    """One planted fact, and whether it was found."""

    name: str
    found: str
    passed: bool


def run_demo(folder: Path, *, overwrite: bool, quiet: bool = False) -> dict[str, Any]:
    """Train, show and check; see the module's docstring.

    Args:
        folder: Where the three Runs are written, each into a folder of its own.
        overwrite: Replace Runs that are there.
        quiet: Print nothing, for ``--json``.

    Returns:
        Paths, figures, checks, and whether all of them passed.

    Raises:
        RunError: If the folder holds Runs and ``overwrite`` is not given, or the examples are not installed.
    """
    started = time.perf_counter()
    names = {"two_tower": "shop_one_backprop", "tower_model": "shop_multitask", "late_fusion": "shop_late"}
    for kind in names:
        check_target(folder / kind, overwrite)
    show = _Show(quiet)
    show.heading(
        "towerkit demo: a small synthetic shop with planted tastes (made up by a seeded generator, no real people)"
    )
    runs, outcomes = {}, {}
    for kind, name in names.items():
        show.heading(_TITLES[kind])
        runs[kind], outcomes[kind] = _train(example(name), folder / kind, show, overwrite=overwrite)
        _SHOW[kind](show, runs[kind], outcomes[kind])
    show.heading("4. The first one as a service")
    checks = [_lift(outcomes["two_tower"]), _auc(outcomes["tower_model"]), _fusion(outcomes["late_fusion"])]
    checks += _service(show, runs["two_tower"])
    show.heading("What was planted, and what was found")
    for check in checks:
        show.line(f"{'ok  ' if check.passed else 'FAIL'} {check.name}: {check.found}")
    seconds = time.perf_counter() - started
    show.line(f"\nThree Runs in {seconds:.0f} s: " + ", ".join(str(run.path) for run in runs.values()))
    show.line(f"Ask one again:  towerkit recommend {runs['two_tower'].path} --query u0007 -k 5")
    return {
        "runs": {kind: str(run.path) for kind, run in runs.items()},
        "metrics": {kind: outcome.evaluation.as_dict()["metrics"] for kind, outcome in outcomes.items()},
        "checks": [vars(check) for check in checks],
        "seconds": round(seconds, 1),
        "passed": all(check.passed for check in checks),
    }


_TITLES = {
    "two_tower": "1. Retrieval: who buys what next? (two towers, one-backprop)",
    "tower_model": "2. Multi-task: a review's stars, and whether the product is recommended (text + table, gated)",
    "late_fusion": "3. Late fusion: a text model and XGBoost, stacked out of fold",
}


def example(name: str) -> Path:
    """The path of a spec in ``examples/``, in a checkout or in the installed package.

    Raises:
        RunError: If it is in neither place.
    """
    here = Path(__file__).parent
    for folder in (here / "examples", here.parents[1] / "examples"):
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    raise RunError(f"The example '{name}.yaml' is not installed beside towerkit; install the package again.")


class _Show:
    """Prints, unless quiet."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet

    def line(self, text: str) -> None:
        if not self.quiet:
            console.say(text)

    def heading(self, text: str) -> None:
        if not self.quiet:
            console.heading(text)

    def answers(self, title: str, table: pa.Table) -> None:
        if not self.quiet:
            console.say(f"\n{title}")
            console.show_table(table)

    def data(self, dataset: Dataset) -> None:
        if not self.quiet:
            console.show_dataset(dataset, console=console.out)

    def figures(self, outcome: Outcome, name: str, only: list[str]) -> None:
        if not self.quiet:
            console.show_metrics(outcome.evaluation, outcome.baselines, name=name, only=only)
            console.say(protocol_line(outcome.evaluation.protocol))


def _train(path: Path, folder: Path, show: _Show, *, overwrite: bool) -> tuple[Run, Outcome]:
    spec = load_spec(path)
    dataset = read_dataset(spec.data, base=path.parent, seed=spec.training.seed)
    show.data(dataset)
    with console.ConsoleProgress(quiet=show.quiet) as progress:
        outcome = train_and_evaluate(spec, dataset, progress)
    write_run(folder, spec, dataset, outcome, overwrite=overwrite)
    return Run.load(folder), outcome


def _show_two_tower(show: _Show, run: Run, outcome: Outcome) -> None:
    show.figures(outcome, "two_tower", ["ndcg@10", "recall@10", "recall@20"])
    show.answers("For a known user, u0007:", run.recommend("u0007", k=5).drop_columns(["query", "cold"]))
    show.answers(
        f"For a new user of whom only this is known, {NEW_USER}:",
        run.recommend(rows=pa.Table.from_pylist([NEW_USER]), k=5).drop_columns(["query"]),
    )
    events = run.recommend("u0007", k=2).column("product_id").to_pylist()
    show.answers(
        f"For a new user after two events, {', '.join(events)} (no training):",
        run.recommend(history=events, k=5).drop_columns(["query", "cold"]),
    )
    show.answers(
        f"A new product, '{NEW_PRODUCT['title']}', before anyone bought it: who would want it?",
        run.queries_for(pa.Table.from_pylist([NEW_PRODUCT]), k=5).drop_columns(["product_id"]),
    )


def _show_tower_model(show: _Show, run: Run, outcome: Outcome) -> None:
    show.figures(outcome, "tower_model", ["rating/mae", "rating/accuracy", "recommended/auc", "recommended/log_loss"])
    rows = pa.Table.from_pylist(
        [{**review, "age": None, "helpful_count": 0, "category": "lighting"} for review in REVIEWS]
    )
    answers = run.predict(rows).select(["rating", "recommended", "recommended=1"])
    shown = answers.add_column(0, "text", rows.column("text"))
    show.answers("Predictions of both tasks for three new reviews, the last one without any text:", shown)


def _show_late_fusion(show: _Show, run: Run, outcome: Outcome) -> None:
    show.figures(outcome, "late_fusion", ["auc", "log_loss"])


_SHOW = {"two_tower": _show_two_tower, "tower_model": _show_tower_model, "late_fusion": _show_late_fusion}


def _lift(outcome: Outcome) -> Check:
    pair = compare(outcome.baselines["popularity"], outcome.evaluation)["ndcg@10"]
    lift = pair.second / max(pair.first, 1e-9)
    found = f"NDCG@10 {pair.second:.4f} is {lift:.2f}x popularity's {pair.first:.4f} (difference {_interval(pair)})"
    return Check(
        f"personal taste is found, at least {LEAST_LIFT}x popularity", found, lift >= LEAST_LIFT and pair.low > 0
    )


def _auc(outcome: Outcome) -> Check:
    auc = outcome.evaluation.metrics["recommended/auc"]
    found = f"AUC {auc.value:.4f} [{auc.low:.4f}, {auc.high:.4f}]"
    return Check(f"sentiment is read, AUC at least {LEAST_AUC}", found, auc.value >= LEAST_AUC)


def _fusion(outcome: Outcome) -> Check:
    members: Mapping[str, Any] = {n: e for n, e in outcome.baselines.items() if n.startswith("member ")}
    best = max(members, key=lambda name: members[name].metrics["auc"].value)
    pair = compare(members[best], outcome.evaluation)["auc"]
    found = f"AUC {pair.second:.4f} against {pair.first:.4f} of {best} (difference {_interval(pair)})"
    return Check("text and table together beat the better of the two", found, pair.low > 0)


def _service(show: _Show, run: Run) -> list[Check]:
    try:
        found, passed = show_service(run, show.answers)
    except MissingExtraError as error:
        show.line(f"Left out. {error}")
        return []
    return [Check("a newcomer is served personally from the first events", found, passed)]


def _interval(pair: Any) -> str:
    return f"{pair.difference:+.4f} [{pair.low:+.4f}, {pair.high:+.4f}]"
