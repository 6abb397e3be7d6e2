// The map: tens of thousands of points on a canvas. Drag or arrow keys move it, the wheel or + and - zoom, a click asks what a point is.

import { ask, later, newest, problem } from "./net.js";

const canvas = document.getElementById("map");
const side = document.getElementById("point");
const OTHER = 255;
const turn = newest();
const state = { x: 0, y: 0, zoom: 1, chosen: -1, near: [] };
let points = new Float32Array(0);
let groups = new Uint8Array(0);
let order = new Uint32Array(0);

const style = () => getComputedStyle(document.documentElement);
const isOrder = canvas.dataset.order !== undefined;

function colorOf(group) {
  const look = style();
  if (group === OTHER) return [look.getPropertyValue("--muted"), 0.35];
  if (isOrder) return [look.getPropertyValue("--series-0"), 0.2 + 0.2 * group];
  return [look.getPropertyValue(`--series-${group % 8}`), 1];
}

// Marks have shapes of their own, so that no one needs to see colors.
function mark(draw, shape, x, y, size) {
  if (shape === 1) draw.rect(x - size, y - size, 2 * size, 2 * size);
  else if (shape === 2) {
    draw.moveTo(x, y - 1.2 * size);
    draw.lineTo(x + 1.15 * size, y + 0.9 * size);
    draw.lineTo(x - 1.15 * size, y + 0.9 * size);
    draw.closePath();
  } else if (shape === 3) {
    draw.moveTo(x, y - 1.4 * size);
    draw.lineTo(x + 1.4 * size, y);
    draw.lineTo(x, y + 1.4 * size);
    draw.lineTo(x - 1.4 * size, y);
    draw.closePath();
  } else {
    draw.moveTo(x + size, y);
    draw.arc(x, y, size, 0, 7);
  }
}

function frame() {
  const box = canvas.getBoundingClientRect();
  const scale = Math.min(box.width, box.height) * 0.46 * state.zoom;
  return { box, scale, left: box.width / 2 - state.x * scale, top: box.height / 2 + state.y * scale };
}

function paint() {
  const { box, scale, left, top } = frame();
  const ratio = Math.min(devicePixelRatio || 1, 2);
  const [wide, high] = [Math.round(box.width * ratio), Math.round(box.height * ratio)];
  if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
  const draw = canvas.getContext("2d");
  draw.setTransform(ratio, 0, 0, ratio, 0, 0);
  draw.clearRect(0, 0, box.width, box.height);
  const count = groups.length;
  const size = Math.min((count > 20000 ? 1.3 : count > 3000 ? 1.8 : 3.2) * Math.sqrt(state.zoom), 6);
  let at = 0;
  while (at < count) { // points lie in the order of their groups: one path for each
    const group = groups[order[at]];
    const [color, alpha] = colorOf(group);
    draw.fillStyle = color;
    draw.globalAlpha = alpha;
    draw.beginPath();
    for (; at < count && groups[order[at]] === group; at += 1) {
      const place = order[at];
      const x = left + points[2 * place] * scale;
      const y = top - points[2 * place + 1] * scale;
      if (x < -8 || y < -8 || x > box.width + 8 || y > box.height + 8) continue;
      if (size < 1.6) draw.rect(x - size, y - size, 2 * size, 2 * size); // too small for a shape to be seen
      else mark(draw, group === OTHER || isOrder ? 0 : group % 4, x, y, size);
    }
    draw.fill();
  }
  draw.globalAlpha = 1;
  draw.strokeStyle = style().getPropertyValue("--words");
  const ring = (place, radius, width) => {
    draw.lineWidth = width;
    draw.beginPath();
    draw.arc(left + points[2 * place] * scale, top - points[2 * place + 1] * scale, radius, 0, 7);
    draw.stroke();
  };
  state.near.forEach((place) => ring(place, size + 3, 1));
  if (state.chosen >= 0) ring(state.chosen, size + 5, 2.5);
}

let waiting = false;
function soon() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    paint();
  });
}

function zoom(factor, x, y) {
  const { box, scale, left, top } = frame();
  const [px, py] = [x ?? box.width / 2, y ?? box.height / 2];
  const [wx, wy] = [(px - left) / scale, (top - py) / scale];
  state.zoom = Math.min(Math.max(state.zoom * factor, 0.5), 200);
  const next = frame();
  state.x = wx - (px - next.box.width / 2) / next.scale;
  state.y = wy + (py - next.box.height / 2) / next.scale;
  soon();
}

async function choose(place, move) {
  const isNewest = turn();
  state.chosen = place;
  state.near = [];
  if (move) [state.x, state.y] = [points[2 * place], points[2 * place + 1]];
  soon();
  const box = document.createElement("div");
  try {
    box.innerHTML = (await ask(canvas.dataset.point, { place })).html;
  } catch (error) {
    box.replaceChildren(problem(error));
  }
  if (!isNewest()) return;
  state.near = [...box.querySelectorAll("[data-place]")].map((each) => Number(each.dataset.place));
  side.replaceChildren(box);
  soon();
}

function nearest(x, y) {
  const { scale, left, top } = frame();
  let [best, least] = [-1, 14 * 14];
  for (let place = 0; place < groups.length; place += 1) {
    const dx = left + points[2 * place] * scale - x;
    const dy = top - points[2 * place + 1] * scale - y;
    const far = dx * dx + dy * dy;
    if (far < least) [best, least] = [place, far];
  }
  return best;
}

const pointers = new Map();
let moved = 0;
canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
  if (pointers.size === 1) moved = 0;
});
canvas.addEventListener("pointermove", (event) => {
  const before = pointers.get(event.pointerId);
  if (!before) return;
  const now = [event.offsetX, event.offsetY];
  if (pointers.size === 2) {
    const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
    const apart = (one) => Math.hypot(one[0] - other[0], one[1] - other[1]) || 1;
    zoom(apart(now) / apart(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    moved = 99;
  } else {
    const { scale } = frame();
    state.x -= (now[0] - before[0]) / scale;
    state.y += (now[1] - before[1]) / scale;
    moved += Math.abs(now[0] - before[0]) + Math.abs(now[1] - before[1]);
    soon();
  }
  pointers.set(event.pointerId, now);
});
canvas.addEventListener("pointerup", (event) => {
  pointers.delete(event.pointerId);
  if (moved > 4) return;
  const place = nearest(event.offsetX, event.offsetY);
  if (place >= 0) choose(place, false);
});
canvas.addEventListener("pointercancel", (event) => pointers.delete(event.pointerId));
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom(Math.exp(-event.deltaY / 400), event.offsetX, event.offsetY);
}, { passive: false });

const STEP = 0.15;
const keys = {
  ArrowLeft: () => (state.x -= STEP / state.zoom),
  ArrowRight: () => (state.x += STEP / state.zoom),
  ArrowUp: () => (state.y += STEP / state.zoom),
  ArrowDown: () => (state.y -= STEP / state.zoom),
  "+": () => zoom(1.4),
  "=": () => zoom(1.4),
  "-": () => zoom(1 / 1.4),
  0: all,
};
canvas.addEventListener("keydown", (event) => {
  if (!keys[event.key] || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  keys[event.key]();
  soon();
});

function all() {
  Object.assign(state, { x: 0, y: 0, zoom: 1 });
  soon();
}
document.getElementById("all").addEventListener("click", all);

side.addEventListener("click", (event) => {
  const button = event.target.closest("[data-place]");
  if (button) choose(Number(button.dataset.place), true);
});

const find = document.getElementById("find");
const list = document.getElementById("found");
const places = new Map();
const look = later(async () => {
  const told = await ask(canvas.dataset.point.replace("/point/", "/find-points/"), { text: find.value });
  list.replaceChildren(
    ...told.found.map(([place, name]) => {
      places.set(name, place);
      return new Option(name, name);
    }),
  );
  if (places.has(find.value)) choose(places.get(find.value), true);
}, 120);
find.addEventListener("input", look);

async function begin() {
  const answer = await fetch(canvas.dataset.points, { credentials: "same-origin" });
  const content = await answer.arrayBuffer();
  const count = Number(canvas.dataset.count);
  points = new Float32Array(content, 0, 2 * count);
  groups = new Uint8Array(content, 8 * count, count);
  order = Uint32Array.from({ length: count }, (_, place) => place).sort((one, other) => groups[other] - groups[one] || one - other);
  for (const each of document.querySelectorAll("canvas[data-group]")) {
    [each.width, each.height] = [28, 28];
    const draw = each.getContext("2d");
    const group = Number(each.dataset.group);
    const [color, alpha] = colorOf(group);
    draw.fillStyle = color;
    draw.globalAlpha = alpha;
    draw.beginPath();
    mark(draw, group === OTHER || isOrder ? 0 : group % 4, 14, 14, 9);
    draw.fill();
  }
  paint();
  canvas.dataset.painted = count; // for whoever waits for it
}

new ResizeObserver(soon).observe(canvas);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", soon);
begin();
