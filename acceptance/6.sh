#!/usr/bin/env bash
# Know what you built, as issue 7 asks for it: every command here prints what it measured.
# Run it from a fresh clone: bash acceptance/6.sh. The real data sets are looked for in TOWERKIT_DATA, else ../shared/data.
# It takes about an hour on two cores; QUICK=1 leaves the real data sets out.
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
say "starts, depths, re-alignment, distillation, aggregates of the past"
check tests/training/test_starts.py tests/training/test_depths.py tests/training/test_distill.py tests/test_realignment.py \
  tests/features/test_aggregates.py
say "longer ones: a helper of tune that is killed, re-alignment and distillation on the shop"
check -m long tests/tuning tests/training/test_distill.py tests/test_realignment.py

say "the shop: planted truth, folds, doctor, report"
$towerkit train examples/shop_ablation.yaml --run "$out/shop"
$towerkit ablate "$out/shop" --columns --out "$out/shop-ablation.json"
$towerkit crossval examples/shop_one_backprop.yaml --folds 3 --out "$out/shop-folds"
$towerkit doctor "$out/shop"
$towerkit report "$out/shop" --with "$out/shop-ablation.json" --with "$out/shop-folds/crossval.json" --out "$out/shop.html"
for name in shop_hybrid shop_multitask; do
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

say "women's clothing, several tasks: ablation, folds"
$towerkit train examples/clothing_multitask.yaml --set model.absent=0.1 --run "$out/clothing"
$towerkit ablate "$out/clothing" --columns --out "$out/clothing-ablation.json"
$towerkit crossval examples/clothing_multitask.yaml --folds 3 --out "$out/clothing-folds"

say "MovieLens-1M, features and titles: ablation under two seeds"
for seed in 0 1; do
  $towerkit train examples/ml1m_features.yaml --set training.seed=$seed --set training.epochs=4 --run "$out/ml1m$seed"
  $towerkit ablate "$out/ml1m$seed" --out "$out/ml1m$seed.json"
done
say "the order of its towers: the same under both seeds wherever intervals do not overlap"
$python tools/same_order.py "$out/ml1m0.json" "$out/ml1m1.json"
$towerkit compare "$out/ml1m0" "$out/ml1m1" --metric ndcg@20
say "the query side of one before the films of the other"
$towerkit realign "$out/ml1m0" "$out/ml1m1" --run "$out/ml1m-realigned"

say "MovieLens-100K: thirty trials, the best beside the default on test"
time $towerkit tune examples/tuning/ml100k.yaml --trials 30 --workers 2 --out "$out/tuned"
say "one page of all that"
$towerkit report "$out/ml1m0" "$out/ml1m1" --with "$out/ml1m0.json" --with "$out/tuned/tuning.json" \
  --with "$out/clothing-folds/crossval.json" --out "$out/report.html"
