"""Two evaluations against each other on the same queries or rows: what differs, and whether it is more than chance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from towerkit.core.errors import RunError, SpecError, listed, nearest
from towerkit.evaluation.paired import paired_differences, segment_differences
from towerkit.evaluation.result import Evaluation
from towerkit.metrics.significance import Difference, corrected

_MUST_AGREE = {
    "ranking": ("part", "split", "candidates", "seen", "positives", "cold_candidates", "exact", "gain"),
    "prediction": ("part", "split", "rows"),
    "joint": ("part", "split"),
}
_USUAL = {"gain": "binary"}
"""What a protocol that is silent about it means: it is of an older version."""
_LEARNED = ("learned", "warnings")
"""Of a split: which training rows were learned from, and what is said about it; the rows measured are the same."""
_COUNTING = ("positive", "events", "relevance", "grades", "min_count", "k_core", "filter_on")
"""Of a split: which rows of a test table given apart count, and what they are worth."""


@dataclass(frozen=True)
class Comparison:
    """A Run beside the first one: every metric that both have, over all queries or rows and within segments."""

    metrics: Mapping[str, Difference]
    segments: Mapping[str, Mapping[str, Mapping[str, Difference]]] = field(default_factory=dict)
    """Segment -> its value -> metric -> difference."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """``segment: value`` -> why it was not compared."""

    def pairs(self) -> Iterator[Difference]:
        """Every difference, over all queries or rows and within segments."""
        yield from self.metrics.values()
        for values in self.segments.values():
            for pairs in values.values():
                yield from pairs.values()

    def as_dict(self) -> dict[str, Any]:
        """For JSON: ``metrics``, and ``segments`` and ``left_out`` where there are any."""
        found: dict[str, Any] = {"metrics": _plain(self.metrics)}
        if self.segments:
            found["segments"] = {
                segment: {value: _plain(pairs) for value, pairs in values.items()}
                for segment, values in self.segments.items()
            }
        return {**found, **({"left_out": dict(self.left_out)} if self.left_out else {})}


def compare(first: Evaluation, second: Evaluation, *, seed: int = 0) -> dict[str, Difference]:
    """Paired differences of every metric that both have.

    Args:
        first: The baseline.
        second: What is compared with it.
        seed: Of the resamples and the randomization.

    Returns:
        Metric -> ``second - first``; the p-values are corrected for the number of metrics.

    Raises:
        RunError: If the two were not measured under one protocol; says what differs.
    """
    _check_protocols(first, second)
    return corrected([paired_differences(first, second, seed)])[0]


def compare_runs(
    first: Evaluation, others: Mapping[str, Evaluation], *, metrics: Sequence[str] | None = None, seed: int = 0
) -> dict[str, Comparison]:
    """Several evaluations against the first, within segments too; the p-values are corrected over all that is returned.

    Args:
        first: The baseline.
        others: Name -> what is compared with it.
        metrics: Only these, decided on beforehand: the fewer, the less the correction costs. All when not given.
        seed: Of the resamples and the randomization.

    Returns:
        Name -> comparison.

    Raises:
        RunError: If two were not measured under one protocol; says what differs.
        SpecError: If a metric of that name is not among those in common.
    """
    found: dict[str, Comparison] = {}
    for name, other in others.items():
        _check_protocols(first, other)
        whole = _chosen(paired_differences(first, other, seed), metrics)
        segments, left_out = segment_differences(first, other, metrics, seed)
        found[name] = Comparison(whole, segments, left_out)
    return _corrected(found)


def _corrected(found: Mapping[str, Comparison]) -> dict[str, Comparison]:
    """Holm over the metrics of all comparisons and all their segments."""
    families = [
        family
        for one in found.values()
        for family in (one.metrics, *(pairs for values in one.segments.values() for pairs in values.values()))
    ]
    done = iter(corrected(families))
    return {
        name: replace(
            one,
            metrics=next(done),
            segments={s: {value: next(done) for value in values} for s, values in one.segments.items()},
        )
        for name, one in found.items()
    }


def _plain(pairs: Mapping[str, Difference]) -> dict[str, Any]:
    return {metric: pair.as_dict() for metric, pair in pairs.items()}


def _chosen(pairs: dict[str, Difference], metrics: Sequence[str] | None) -> dict[str, Difference]:
    for metric in metrics or ():
        if metric not in pairs:
            raise SpecError(
                f"There is no metric '{metric}' that both Runs have{nearest(metric, pairs) or '.'} They have {listed(pairs, 30)}."
            )
    return pairs if metrics is None else {metric: pairs[metric] for metric in metrics}


def _check_protocols(first: Evaluation, second: Evaluation) -> None:
    one, other = ({**_USUAL, **each.protocol} for each in (first, second))
    if not (first.details and second.details):
        raise RunError(
            "Runs are compared query by query or row by row, and one of the two keeps figures only, as a Run's baselines "
            "do. Compare the evaluations of two Runs."
        )
    names = ("kind",) if one["kind"] != other["kind"] else _MUST_AGREE[one["kind"]]
    one, other = (
        {**protocol, "split": _deciding(protocol)} if "split" in names else protocol for protocol in (one, other)
    )
    differing = [f"{name}: {one[name]} against {other[name]}" for name in names if one[name] != other[name]]
    if differing:
        raise RunError(
            "Runs can be compared only under one protocol; these differ in "
            + "; ".join(differing)
            + ". Train both on the same data and split."
        )
    for name in one["rankings"] if one["kind"] == "joint" else ():
        if name in other["rankings"]:
            _check_protocols(first.of(name), second.of(name))


def _deciding(protocol: Mapping[str, Any]) -> Mapping[str, Any]:
    """What of the split decides which rows were measured: a seed draws nothing by time, nor from a test table given apart."""
    split = protocol["split"]
    if split.get("test") == "given" and protocol["part"] == "test":
        return {"test": "given", **{key: split[key] for key in _COUNTING if key in split}}
    unimportant = {*_LEARNED, *(("seed",) if split["kind"] in ("time", "leave_last") else ())}
    return {key: value for key, value in split.items() if key not in unimportant}
