"""Training again without each tower, with the same budget and seeds; what is done stays, also when the process is killed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from towerkit.ablation.opening import seal_of, spec_of
from towerkit.ablation.result import Retrained
from towerkit.ablation.variants import Variant, variants
from towerkit.core.errors import RunError
from towerkit.data.dataset import Dataset
from towerkit.data.stream.log import Log
from towerkit.evaluation.kept import Kept
from towerkit.evaluation.result import Evaluation
from towerkit.evaluation.samples import averaged, sample_differences, sample_of, values_of_sample
from towerkit.experiment import train_and_evaluate
from towerkit.metrics.significance import corrected
from towerkit.run import Run
from towerkit.spec import ModelingSpec, plain
from towerkit.training.progress import Progress, Staged

Say = Callable[[str], None]


def retrain(
    run: Run,
    dataset: Dataset | Log,
    metrics: Sequence[str],
    progress: Progress,
    *,
    seeds: Sequence[int] = (),
    towers: Sequence[str] = (),
    structure: bool = True,
    kept: Kept | None = None,
    say: Say = lambda text: None,
) -> tuple[dict[str, Retrained], dict[str, Retrained], dict[str, str]]:
    """Train the model again without each tower, and with the plainest backbone and heads.

    Args:
        run: What was trained.
        dataset: With the same rows and parts; the split stays, whatever the seeds.
        metrics: Which figures are compared.
        progress: Told of each training.
        seeds: Of the trainings; the Run's own when not given. The whole model is trained again for every other seed.
        towers: Only these; all when not given.
        structure: Whether the backbone and the heads are made plain, too.
        kept: Where the evaluations are kept.
        say: Told what is being trained.

    Returns:
        Tower -> figures; ``backbone`` or ``head NAME`` -> figures; what could not be trained -> why.

    Raises:
        RunError: If the Run went on from another one, so that its training cannot be repeated.
    """
    if "continues" in run.manifest.extra:
        raise RunError(
            f"{run.path} went on from another Run, so that training it again without a tower would not be the same training. "
            "Ablate it with the modes absent, mean and permute, or a Run that was trained at once."
        )
    spec = spec_of(run)
    seeds, memory = list(dict.fromkeys(seeds)) or [spec.training.seed], kept or Kept(None)
    every = [each for each in variants(spec) if (each.name in towers if towers else each.is_tower or structure)]
    skipped = {each.name: each.why_not for each in every if each.spec is None}
    trained = _Trainings(run, dataset, progress, memory, say)
    whole = {
        seed: run.evaluation if seed == spec.training.seed else trained.of("the whole model", spec, seed)
        for seed in seeds
    }
    found = {}
    for each in every:
        if each.spec is None:
            continue
        own = {seed: trained.of(each.change, each.spec, seed) for seed in seeds}
        found[each.name] = _compared(each, whole, own, metrics, tests=len(every) * len(metrics))
    fixed = dict(zip(found, corrected([each.metrics for each in found.values()]), strict=True))
    done = {name: Retrained(each.change, fixed[name], each.by_seed) for name, each in found.items()}
    is_tower = {each.name: each.is_tower for each in every}
    return (
        {name: each for name, each in done.items() if is_tower[name]},
        {name: each for name, each in done.items() if not is_tower[name]},
        skipped,
    )


class _Trainings:
    """Trains what was not trained before."""

    def __init__(self, run: Run, dataset: Dataset | Log, progress: Progress, kept: Kept, say: Say) -> None:
        self._run, self._dataset, self._progress, self._kept, self._say = run, dataset, progress, kept, say

    def of(self, what: str, spec: ModelingSpec, seed: int) -> Evaluation:
        """The evaluation of a spec under a seed."""
        training = spec.training.model_copy(update={"seed": seed, "track": ()})
        spec = spec.model_copy(update={"training": training})
        described = {key: value for key, value in plain(spec).items() if key != "data"}
        identity = {"run": seal_of(self._run), "spec": described, "mode": "retrain", "seed": seed}
        found = self._kept.get(identity)
        if found is not None:
            self._say(f"{what}, seed {seed}: kept from before")
            return found.evaluation
        self._say(f"{what}, seed {seed}: training")
        outcome = train_and_evaluate(spec, self._dataset, Staged(self._progress, f"{what}, seed {seed}:"))
        self._kept.put(identity, outcome.evaluation)
        return outcome.evaluation


def _compared(
    variant: Variant,
    whole: Mapping[int, Evaluation],
    own: Mapping[int, Evaluation],
    metrics: Sequence[str],
    *,
    tests: int,
) -> Retrained:
    """Both averaged over the seeds, query by query or row by row, and each seed by itself."""
    firsts = [sample_of(each, metrics) for each in whole.values()]
    seconds = [sample_of(each, metrics) for each in own.values()]
    common = [name for name in firsts[0] if name in seconds[0]]
    firsts = [{name: each[name] for name in common} for each in firsts]
    seconds = [{name: each[name] for name in common} for each in seconds]
    pairs = sample_differences(averaged(firsts), averaged(seconds), tests=tests)
    by_seed = {}
    for seed, one, two in zip(whole, firsts, seconds, strict=True):
        old, new = values_of_sample(one), values_of_sample(two)
        by_seed[seed] = {name: new[name] - old[name] for name in old}
    return Retrained(variant.change, pairs, by_seed)
