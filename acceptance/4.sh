#!/usr/bin/env bash
# Compiled kernels and the shortest path to quality, as issue 4 asks for it: every command here prints what it measured.
# Run it from a fresh clone: bash acceptance/4.sh. The real data sets are looked for in TOWERKIT_DATA, else ../shared/data.
# The timings want an otherwise idle machine. Everything takes about an hour on two cores; QUICK=1 leaves the peers, the trainings
# over seeds and the four smaller data sets out (about 12 minutes).
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf '\n== %s\n' "$*"; }
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

say "install"
make install
towerkit=.venv/bin/towerkit
python=.venv/bin/python
check() { $python -m pytest -q -p no:cacheprovider "$@"; }

say "equality and determinism of each kernel, compiled and as plain Python"
check tests/kernels tests/training/test_compiled_engine.py tests/matching/test_negatives.py tests/index tests/towers/test_decomposition.py
check -m long tests/kernels

say "killed after each step and resumed under the compiled engines: every bit as in the uninterrupted training"
$python tests/faults/kill_each_step.py --threads 1 2 --case "compiled, one_backprop" "compiled, shared"

say "the table: each row beside its own baseline (those of indexes and services are in 7.sh, of several workers in 8.sh)"
own=(compile epoch evaluation machine memory peers quality ranking softmax start streaming training)
if [ -z "${QUICK:-}" ]; then
  $python benchmarks/suite.py --peers --quality --only "${own[@]}"
else
  $python benchmarks/suite.py --only "${own[@]}"
fi

data=${TOWERKIT_DATA:-../shared/data}
if [ ! -d "$data" ]; then
  say "presets: SKIPPED: the real data sets are not at $data; set TOWERKIT_DATA"
  exit 0
fi
say "Gowalla, --preset spectral: chosen on validation, the test file read once"
gowalla="$data/gowalla/light_gcn_gowalla.zip::light_gcn_gowalla"
time $towerkit train --preset spectral --data "$gowalla/train.txt" --test "$gowalla/test.txt" --run "$out/gowalla"
say "Gowalla, --preset best: a blend, chosen on validation too"
time $towerkit train --preset best --budget 180s --data "$gowalla/train.txt" --test "$gowalla/test.txt" --run "$out/gowalla-best"

if [ -z "${QUICK:-}" ]; then
  say "both presets beside iALS, EASE, item-kNN and popularity on other data"
  cp benchmarks/results/presets.json "$out/kept.json"
  $python benchmarks/results/presets.py ml-1m ml-100k last.fm beauty
  mv benchmarks/results/presets.json benchmarks/results/presets-latest.json
  mv "$out/kept.json" benchmarks/results/presets.json
fi
say "the pages are what their figures give"
$python benchmarks/write.py --check
$python benchmarks/results/write.py --check
