"""Every metric that two evaluations share, paired over the queries or rows that both answered."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from towerkit.core.errors import RunError
from towerkit.evaluation.prediction import SEGMENTS
from towerkit.evaluation.ranking import POSITIVES
from towerkit.evaluation.result import Evaluation
from towerkit.evaluation.task_details import stored_rows
from towerkit.metrics.intervals import default_resamples
from towerkit.metrics.significance import Difference, mean_differences, statistic_differences

_SAME_TASK = ("column", "classes", "kind")
_ONE_CLASS_OF_SEVERAL = ("multiclass", "ordinal")
"""An ordinal task has the metrics of a multiclass one, and two more."""


def paired_differences(first: Evaluation, second: Evaluation, seed: int) -> dict[str, Difference]:
    """Every metric over all queries or rows.

    Args:
        first: The baseline.
        second: What is compared with it, measured under the same protocol.
        seed: Of the resamples and the randomization.

    Returns:
        Metric -> ``second - first``.

    Raises:
        RunError: If they have other queries, rows or labels, or nothing in common.
    """
    if first.protocol["kind"] == "joint":
        return _compare_joint(first, second, seed)
    if first.protocol["kind"] == "ranking":
        found = _compare_rankings(first.details["ranking"], second.details["ranking"], seed)
        if not found:
            raise RunError(
                f"The two Runs have no metric in common: one has k {first.protocol['k']}, the other "
                f"{second.protocol['k']}. Evaluate both with one evaluation.k."
            )
        return found | _compare_tasks(first, second, seed)
    found = _compare_tasks(first, second, seed)
    if not found:
        raise RunError(
            f"The two Runs have no task in common: one predicts {sorted(_tasks(first))}, the other "
            f"{sorted(_tasks(second))}. Compare Runs that predict the same columns."
        )
    return found


def _compare_joint(first: Evaluation, second: Evaluation, seed: int) -> dict[str, Difference]:
    """Every metric of every ranking that both have."""
    ours, theirs = first.protocol["rankings"], second.protocol["rankings"]
    common = [name for name in ours if name in theirs]
    if not common:
        raise RunError(
            f"The two Runs have no candidates in common: one ranks {sorted(ours)}, the other {sorted(theirs)}. Compare Runs that "
            "rank the same columns."
        )
    return {
        f"{name}/{metric}": pair
        for name in common
        for metric, pair in paired_differences(first.of(name), second.of(name), seed).items()
    }


def _compare_tasks(first: Evaluation, second: Evaluation, seed: int) -> dict[str, Difference]:
    """Every metric of every task that both predict; of rankings, those beside the ranking."""
    found: dict[str, Difference] = {}
    for task, table in _tasks(first).items():
        if task in _tasks(second):
            found |= _compare_task(task, table, second.details[task], first, second, seed)
    return found


def segment_differences(
    first: Evaluation, second: Evaluation, metrics: Sequence[str] | None, seed: int
) -> tuple[dict[str, dict[str, dict[str, Difference]]], dict[str, str]]:
    """Every metric within every value of every segment that both were evaluated by.

    Args:
        first: The baseline.
        second: What is compared with it, measured under the same protocol.
        metrics: Only these; all when not given.
        seed: Of the resamples and the randomization.

    Returns:
        Segment -> value -> metric -> ``second - first``, and ``segment: value`` -> why it could not be paired.
    """
    found: dict[str, dict[str, dict[str, Difference]]] = {}
    left_out: dict[str, str] = {}
    if SEGMENTS not in first.details or SEGMENTS not in second.details:
        return found, left_out
    ours, theirs = _split(first.details[SEGMENTS]), _split(second.details[SEGMENTS])
    for segment, value in dict.fromkeys([*ours, *theirs]):
        mine, other = ours.get((segment, value)), theirs.get((segment, value))
        try:
            if mine is None or other is None:
                raise RunError("only one of the two Runs has it")
            pairs = _within(first, second, mine, other, seed)
        except RunError as error:
            left_out[f"{segment}: {value}"] = str(error)
            continue
        kept = pairs if metrics is None else {metric: pairs[metric] for metric in metrics if metric in pairs}
        found.setdefault(segment, {})[value] = kept
    return found, left_out


def _within(first: Evaluation, second: Evaluation, mine: pa.Table, other: pa.Table, seed: int) -> dict[str, Difference]:
    """Every metric within one value of a segment."""
    if first.protocol["kind"] == "ranking":
        return _compare_rankings(mine, other, seed)
    if set(mine.column("row").to_pylist()) != set(other.column("row").to_pylist()):
        raise RunError("it has other rows in each of the two Runs")
    found: dict[str, Difference] = {}
    for task, table in _tasks(first).items():
        if task in second.details:
            one, two = (
                each.filter(pc.is_in(each.column("row"), value_set=mine.column("row").combine_chunks()))
                for each in (table, second.details[task])
            )
            if len(one):
                found |= _compare_task(task, one, two, first, second, seed)
    return found


def _compare_rankings(one: pa.Table, other: pa.Table, seed: int) -> dict[str, Difference]:
    """Tables with a column ``query`` and one for each metric, of the same queries."""
    same_type = one.column("query").type == other.column("query").type
    place = pc.index_in(one.column("query"), value_set=other.column("query").combine_chunks()) if same_type else None
    if place is None or place.null_count or len(one) != len(other):
        raise RunError("The two Runs were evaluated on different queries; train both on the same data and split.")
    other = other.take(place)
    if POSITIVES in one.column_names and POSITIVES in other.column_names:
        _check_same_positives(one.column(POSITIVES), other.column(POSITIVES))
    names = [name for name in one.column_names if name not in ("query", POSITIVES)]
    common = [metric for metric in names if metric in other.column_names]
    # A segment of candidates has no novelty: in the long table its column is empty there.
    common = [metric for metric in common if not one.column(metric).null_count]
    a, b = ({metric: table.column(metric).to_numpy() for metric in common} for table in (one, other))
    return mean_differences(a, b, seed=seed)


def _check_same_positives(one: pa.ChunkedArray, other: pa.ChunkedArray) -> None:
    """A segment by what training saw is not the same one for a Run that was trained on other rows."""
    if not one.equals(other):
        queries = pc.sum(pc.fill_null(pc.not_equal(one, other), True)).as_py()
        raise RunError(
            f"it holds other right answers in each of the two Runs, for {queries:,} of its {len(one):,} queries"
        )


def _compare_task(
    task: str, one: pa.Table, other: pa.Table, first: Evaluation, second: Evaluation, seed: int
) -> dict[str, Difference]:
    about, others = first.protocol["tasks"][task], second.protocol["tasks"][task]
    if {about["kind"], others["kind"]} == set(_ONE_CLASS_OF_SEVERAL):
        about, others = ({**each, "kind": "multiclass"} for each in (about, others))
    differing = [f"{key}: {about[key]} against {others[key]}" for key in _SAME_TASK if about[key] != others[key]]
    if differing:
        raise RunError(
            f"The task '{task}' is another one in the second Run, they differ in {'; '.join(differing)}; its figures would "
            "mean different things. Give both heads the same column, and the same data."
        )
    if not (one.column("row").equals(other.column("row")) and one.column("truth").equals(other.column("truth"))):
        raise RunError(
            f"The task '{task}' was evaluated on different rows or labels; train both on the same data and split."
        )
    first_rows, second_rows = stored_rows([about], [one]), stored_rows([others], [other])
    both = stored_rows([about, others], [one, other])
    several = first.protocol["kind"] == "ranking" or len(_tasks(first)) > 1 or len(_tasks(second)) > 1
    found = statistic_differences(first_rows, second_rows, both, resamples=default_resamples(len(one)), seed=seed)
    return {f"{task}/{name}" if several else name: pair for name, pair in found.items()}


def _tasks(evaluation: Evaluation) -> dict[str, pa.Table]:
    others = (SEGMENTS, "ranking") if evaluation.protocol["kind"] == "ranking" else (SEGMENTS,)
    return {task: table for task, table in evaluation.details.items() if task not in others}


def _split(table: pa.Table) -> dict[tuple[str, str], pa.Table]:
    """``(segment, value)`` -> its rows of a table in long form, in the order of their first appearance."""
    keys = list(zip(table.column("segment").to_pylist(), table.column("value").to_pylist(), strict=True))
    places: dict[tuple[str, str], list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(key, []).append(place)
    return {key: table.take(pa.array(rows)).drop_columns(["segment", "value"]) for key, rows in places.items()}
