#!/usr/bin/env bash
# Real people can use it, as issue 10 asks for it: every command here prints what it shows.
# Run it from a fresh clone: bash acceptance/9.sh. Browser tests want Debian's chromium, and axe-core from npm; the real data sets are looked for in
# TOWERKIT_DATA, else ../shared/data. What is not there is skipped visibly. QUICK=1 leaves out the figures of the gallery.
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf '\n== %s\n' "$*"; }
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

say "install"
make install .venv/node_modules/axe-core/axe.min.js
towerkit=$PWD/.venv/bin/towerkit
python=.venv/bin/python
data=${TOWERKIT_DATA:-../shared/data}
if [ -d "$data" ]; then
  TOWERKIT_DATA=$(cd "$data" && pwd)
  export TOWERKIT_DATA
fi
check() { OMP_NUM_THREADS=1 $python -m pytest -q -p no:cacheprovider "$@"; }

say "the studio: every page opened, used and pictured in a browser; nothing on the console, nothing from elsewhere, no sideways scrolling"
check -m "long or not long" tests/studio --ignore tests/studio/test_accessibility.py --ignore tests/studio/test_pictures.py
say "its pictures in the docs are those that the test makes"
mkdir "$out/pictures"
TOWERKIT_PICTURES="$out/pictures" check -m long tests/studio/test_pictures.py
for picture in "$out"/pictures/*.png; do
  [ -f "docs/_static/$(basename "$picture")" ] || { echo "docs/_static lacks $(basename "$picture")"; exit 1; }
  grep -q "$(basename "$picture")" docs/*.md || { echo "no page shows $(basename "$picture")"; exit 1; }
done
ls "$out/pictures"
say "nobody is kept out: axe-core on every page and on the report, light and dark, at 1280 and 360 pixels; by keys alone"
check -m "long or not long" -rs tests/studio/test_accessibility.py
say "fluid: 1,000 Runs and 50,000 points, time to interactive at most 2 s"
$python benchmarks/bench_studio.py

say "the pages of docs: built without a warning, examples run"
make docs
check tests/docs
say "the miniature"
check tests/test_miniature.py

say "the gallery: every use has its example, a project of its own, and a row with its figure; the README leads to all"
check tests/test_gallery.py tests/docs/test_links.py
$towerkit new
if [ -z "${QUICK:-}" ]; then
  say "figures of the gallery, measured again"
  $python benchmarks/results/gallery.py --seeds 1
fi

say "first minutes: a wheel in an environment of its own, the network shut"
$python -m pip wheel -q --no-deps -w "$out" .
python3 -m venv "$out/venv"
"$out/venv/bin/python" -m pip install -q --no-deps --no-index "$out"/towerkit-*.whl
# The packages that towerkit needs are lent by the environment above, towerkit itself is not.
$python -c "import site; print(site.getsitepackages()[0])" >"$("$out/venv/bin/python" -c "import site; print(site.getsitepackages()[0])")/lent.pth"
shut() {
  if unshare -rn true 2>/dev/null; then
    unshare -rn bash -c 'ip link set lo up && exec "$@"' shut "$@"
  else
    echo "no namespaces here: the network is open"
    "$@"
  fi
}
(
  cd "$out"
  "$out/venv/bin/python" -c "import towerkit; assert towerkit.__file__.startswith('$out'), towerkit.__file__"
  shut "$out/venv/bin/towerkit" demo | tail -n 8
  "$out/venv/bin/towerkit" evaluate nowhere || true # an error leads to a page that the wheel carries
)
say "ten strange files, ten helpful first screens; an error leads to its page; a shell completes"
check tests/test_doctor_strange.py tests/test_guide.py
say "nothing that only POSIX has, without another way"
check tests/test_other_systems.py
