#!/usr/bin/env bash
# Past one machine, as far as issue 9 is done: several workers train as one, on Ray and without, and lose no training when one dies.
# Run it from a fresh clone: bash acceptance/8.sh. Gowalla is looked for in TOWERKIT_DATA, else ../shared/data, with random pairs of its size in
# its place. FULL=1 measures the bytes with 4 workers too. Not here, because not built: Ray Data, sharded item tables, embed --on, tune --on.
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf '\n== %s\n' "$*"; }
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

say "install"
make install
python=.venv/bin/python
export OMP_NUM_THREADS=1
check() { $python -m pytest -q -p no:cacheprovider "$@"; }

say "N workers with B rows are one with N B: values, gradients, weights, everything that is remembered (threads play the workers)"
check tests/training/test_together.py

say "two real processes over gloo: the Run of one process; one vanishes, and a process alone goes on"
check tests/scale/test_processes.py

say "two workers on Ray, one of them killed: the Run of one process"
check tests/scale/test_ray_train.py -m long

say "from the command line: one and two workers on Ray beside the plain training"
train() {
  name=$1
  shift
  .venv/bin/towerkit train examples/shop_one_backprop.yaml --run "$out/$name" --set training.epochs=5 --set training.engine=torch --json "$@" >"$out/$name.json"
}
train plain
train one --on local --workers 1
train two --on local --workers 2
$python - "$out"/plain.json "$out"/one.json "$out"/two.json <<'PY'
import json, sys
for path in sys.argv[1:]:
    report = json.load(open(path))
    name, metric = next(iter(report["metrics"].items()))
    print(f"{path.rsplit('/', 1)[-1]:11} {report['seconds']:6.1f} s  {name} {metric['value']:.4f} [{metric['low']:.4f}, {metric['high']:.4f}]")
PY

say "bytes on the wire, all four cells, and their prediction"
if [ -n "${FULL:-}" ]; then $python benchmarks/bench_scale.py; else $python benchmarks/bench_scale.py --workers 2 --sorts shared --steps 4; fi
