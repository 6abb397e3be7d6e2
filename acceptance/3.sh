#!/usr/bin/env bash
# Honest evaluation and a Run that can be trusted, as issue 3 asks for it: every command here prints what it measured.
# Run it from a fresh clone: bash acceptance/3.sh. The real data sets are looked for in TOWERKIT_DATA, else ../shared/data.
# It takes over an hour on two cores (mutants, ten thousand damaged Runs); QUICK=1 takes smaller samples. FULL=1 also does the
# trainings of docs/results.md on clothing and SciFact again, which otherwise is held against the figures that were kept of
# them; FULL=1 acceptance/2.sh does those on MovieLens and Gowalla.
set -euo pipefail
cd "$(dirname "$0")/.."
pick() { if [ -z "${QUICK:-}" ]; then echo "$1"; else echo "$2"; fi; }
say() { printf '\n== %s\n' "$*"; }
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

say "install"
make install
towerkit=.venv/bin/towerkit
python=.venv/bin/python
export OMP_NUM_THREADS=1
check() { $python -m pytest -q -p no:cacheprovider "$@"; }

say "oracles: ranx, ir-measures, scikit-learn, SciPy and bm25s to 1e-9 (BM25 1e-6); chance for collapsed towers; invariance to chunks and order"
check tests/metrics tests/evaluation tests/index tests/baselines

say "bad input: every message word for word, and the control that a changed word is noticed"
check tests/bad_input tests/test_bad_input.py

say "Runs: formats and old Runs, tampering, no code at load (audit hook, with negative controls), no pickle anywhere"
check tests/artifact tests/storage tests/test_old_runs.py tests/test_no_pickle.py

say "damaged Runs: typed error, under 2 s of processor time and 512 MB each"
$python tests/faults/fuzz_runs.py --count "$(pick 10000 1000)"
say "negative control: without verification the same command must notice"
if $python tests/faults/fuzz_runs.py --count 200 --no-verification; then
  echo "the control was not noticed"
  exit 1
fi

say "faults: the n-th system call fails or is the last, for n = 1, 2, …"
$python tests/faults/fail_each_call.py --stride "$(pick 1 9)"
say "faults: 200 random SIGKILLs of trainings"
$python tests/faults/kill_at_random.py --kills "$(pick 200 20)"
say "faults: full, limited and read-only disks, a clock that goes back, two writers, locks of the dead"
$python tests/faults/bad_disk.py
say "faults: each without its mechanism, which must be noticed"
check -m long tests/faults

say "branch coverage of storage, artifact, metrics and checkpoint: 100 %"
make coverage
say "mutants of the same modules: at least 90 % killed"
$python tools/mutation.py --sample "$(pick 300 100)" --workers 2

data=${TOWERKIT_DATA:-../shared/data}
if [ ! -d "$data" ]; then
  say "real data: SKIPPED: it is not at $data; set TOWERKIT_DATA"
  exit 0
fi
say "new rows of a trained Run are evaluated with intervals and segments, and Runs are compared"
reference=(--set training.epochs=20 --set "evaluation.segments=[activity, popularity]")
$towerkit train examples/ml100k_one_backprop.yaml --run "$out/one" "${reference[@]}"
$towerkit train examples/ml100k_one_backprop.yaml --run "$out/two" "${reference[@]}" --set update.kind=two_backprop
$towerkit evaluate "$out/one" --data "$data/ml-100k/reference_split/100k_test.csv"
$towerkit compare "$out/one" "$out/two" --metric ndcg@20

if [ -n "${FULL:-}" ]; then
  say "clothing and SciFact over seeds (docs/results.md is made from a run of these)"
  $python benchmarks/results/examples.py --out "$out/results"
fi
say "ML-100K, ML-1M, Gowalla, clothing and SciFact with intervals and baselines: docs/results.md is what its figures give"
sed -n '/^### /,/^$/p; /^| /p' docs/results.md
$python benchmarks/results/write.py --check
