#!/usr/bin/env bash
# Past one machine: several workers train, tune, encode and embed as one, on Ray and without, and lose nothing when one dies.
# Run it from a fresh clone: bash acceptance/8.sh. Gowalla is looked for in TOWERKIT_DATA, else ../shared/data, with random pairs of its size in
# its place. FULL=1 measures the bytes with 4 workers too and kills 50 workers.
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

say "two real processes over gloo: the Run of one process, the item table whole or in shards; one vanishes, and one process or three go on"
check tests/scale/test_processes.py tests/scale/test_deaths.py

say "the same shards beside TorchRec's, in an environment of their own"
$python -m venv "$out/torchrec"
$python -c 'import os, sysconfig; print(sysconfig.get_path("purelib"), os.path.abspath("src"), sep="\n")' >"$(echo "$out"/torchrec/lib/python*/site-packages)/towerkit.pth"
if "$out/torchrec/bin/pip" install -q --no-deps -r tests/scale/torchrec.txt; then
  "$out/torchrec/bin/python" -m pytest -q -p no:cacheprovider -m long tests/scale/test_beside_torchrec.py
else
  echo "skipped: TorchRec cannot be installed here"
fi

say "two workers on Ray, one of them killed: the Run of one process"
check tests/scale/test_ray_train.py -m long

say "pieces: an encoded log is that of one pass, vectors in files and an index in shards are those of the whole"
check tests/data/stream/test_pieces.py tests/scale/test_embedding.py
check tests/index/test_indexes.py -k shard
check tests/index/test_filling.py

say "the same on Ray, with workers killed; trials side by side, one of whose workers is killed; a node that is lost and comes back"
check tests/scale/test_ray_pieces.py tests/scale/test_ray_tune.py tests/scale/test_ray_nodes.py -m long

say "a worker killed at a random step, again and again"
$python tests/faults/kill_workers.py --kills "$(if [ -n "${FULL:-}" ]; then echo 50; else echo 3; fi)"

say "from the command line: one and two workers on Ray beside the plain training"
train() {
  name=$1
  shift
  .venv/bin/towerkit train examples/shop_one_backprop.yaml --run "$out/$name" --set training.epochs=5 --set training.engine=torch --json "$@" >"$out/$name.json"
}
train plain
train one --on local --workers 1
train two --on local --workers 2
train shards --on local --workers 2 --set training.tables=sharded
$python - "$out"/plain.json "$out"/one.json "$out"/two.json "$out"/shards.json <<'PY'
import json, sys
for path in sys.argv[1:]:
    report = json.load(open(path))
    name, metric = next(iter(report["metrics"].items()))
    print(f"{path.rsplit('/', 1)[-1]:11} {report['seconds']:6.1f} s  {name} {metric['value']:.4f} [{metric['low']:.4f}, {metric['high']:.4f}]")
PY

say "from the command line: trials on Ray, which the command without Ray finds done; vectors on Ray, the same bytes as without"
tune() { .venv/bin/towerkit tune examples/shop_one_backprop.yaml --out "$out/tuned" --trials 4 --set training.epochs=2 --json "$@"; }
tune --on local --workers 2 >"$out/tuned.json"
tune >"$out/again.json"
$python - "$out"/tuned.json "$out"/again.json <<'PY'
import json, sys
one, other = (json.load(open(path)) for path in sys.argv[1:])
assert one["trials"] == other["trials"] and one["best"] == other["best"]
print(f"{len(one['trials'])} trials, best {one['metric']} {one['best']['value']:.4f}")
PY
$python - "$out/items" <<'PY'
import pathlib, sys
import pyarrow.parquet
from towerkit.data.readers import read_table
folder, table = pathlib.Path(sys.argv[1]), read_table("builtin:shop-small/products").data
folder.mkdir()
for place in range(4):
    pyarrow.parquet.write_table(table.slice(30 * place, 30), folder / f"{place}.parquet")
PY
.venv/bin/towerkit embed "$out/plain" "$out/items" --side candidate --out "$out/vectors-one"
.venv/bin/towerkit embed "$out/plain" "$out/items" --side candidate --out "$out/vectors-two" --on local --workers 2
diff -r "$out/vectors-one" "$out/vectors-two"

say "from the command line: inverted lists filled by workers, the same file as without"
index() { .venv/bin/towerkit index "$out/plain" --factory IVF8,Flat --out "$@"; }
index "$out/index-one"
index "$out/index-two" --on local --workers 2
cmp "$out/index-one/native.faiss" "$out/index-two/native.faiss"

say "bytes on the wire, all four cells, and their prediction"
if [ -n "${FULL:-}" ]; then $python benchmarks/bench_scale.py; else $python benchmarks/bench_scale.py --workers 2 --sorts shared --steps 4; fi
