// The list of Runs: sort by a column, filter by words, choose some to compare.

const table = document.getElementById("runs");
const find = document.getElementById("find");
const compare = document.getElementById("compare");
const told = document.getElementById("told");
const MOST = 8;

if (table) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const words = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const chosen = [];

  find.addEventListener("input", () => {
    const wanted = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      row.hidden = !wanted.every((word) => words.get(row).includes(word));
      shown += row.hidden ? 0 : 1;
    }
    told.textContent = wanted.length ? `${shown} of ${rows.length} Runs` : "";
  });

  const key = (row, place, kind) => {
    const cell = row.cells[place];
    if (!cell) return kind === "number" ? NaN : "";
    if (kind !== "number") return cell.textContent;
    return cell.dataset.value ? Number(cell.dataset.value) : NaN;
  };
  table.tHead.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-sort]");
    if (!button) return;
    const head = button.parentElement;
    const place = head.cellIndex;
    const kind = button.dataset.sort;
    const down = head.getAttribute("aria-sort") === "none" ? kind === "number" : head.getAttribute("aria-sort") === "ascending";
    for (const each of table.tHead.querySelectorAll("th[aria-sort]")) each.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const keys = new Map(rows.map((row) => [row, key(row, place, kind)]));
    rows.sort((one, other) => {
      const [a, b] = [keys.get(one), keys.get(other)];
      if (kind !== "number") return down ? b.localeCompare(a) : a.localeCompare(b);
      if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b); // those without a figure come last
      return down ? b - a : a - b;
    });
    body.append(...rows);
  });

  body.addEventListener("change", (event) => {
    const box = event.target;
    const place = chosen.indexOf(box.value);
    if (box.checked && place < 0) chosen.push(box.value);
    if (!box.checked && place >= 0) chosen.splice(place, 1);
    compare.disabled = chosen.length < 2 || chosen.length > MOST;
    told.textContent =
      chosen.length > MOST ? `At most ${MOST} Runs are compared.` : chosen.length ? `${chosen.length} chosen, the first is what others are compared with.` : "";
  });
  compare.addEventListener("click", () => {
    location.assign(`/compare/${chosen.map((id) => encodeURIComponent(id)).join("/")}`);
  });
}
