// Try it, for a model that ranks: the form asks as it changes, answers can be added to a history.

import { ask, later, newest, problem } from "./net.js";

const form = document.getElementById("ask");
const answers = document.getElementById("answers");
const met = document.getElementById("met");
const beside = document.getElementById("beside");
const known = document.getElementById("known");
const meet = document.getElementById("meet");
const turn = newest();
const path = form.dataset.path;
const history = [];

const way = () => form.querySelector("[name=way]:checked").value;

function row() {
  const found = {};
  for (const field of form.querySelectorAll("[data-column]")) {
    found[field.dataset.column] = field.value === "" ? null : field.dataset.shape === "number" ? field.valueAsNumber : field.value;
  }
  return found;
}

function question() {
  const asked = {
    k: Math.min(Math.max(Number(form.elements.k.value) || 10, 1), 50),
    exclude_seen: form.elements.seen.checked,
    diversity: Number(form.elements.diversity.value),
  };
  if (form.elements.where.value.trim()) asked.where = form.elements.where.value.trim();
  if (way() === "query") asked.query = known.value.trim() || form.dataset.query;
  if (way() === "features") asked.features = row();
  if (way() === "history") asked.history = history.map((each) => each.key);
  return asked;
}

async function answerOf(run, asked) {
  const box = document.createElement("div");
  try {
    box.innerHTML = (await ask(run, { ranking: form.dataset.ranking, question: asked })).html;
  } catch (error) {
    box.replaceChildren(problem(error));
  }
  return box;
}

async function show() {
  const isNewest = turn();
  const asked = question();
  if (asked.history && asked.history.length === 0) {
    answers.replaceChildren("Choose what was met: the answers follow.");
    return;
  }
  const paths = [path];
  if (beside?.value) paths.push(`/ask/${encodeURIComponent(beside.value)}`);
  const boxes = await Promise.all(paths.map((each) => answerOf(each, asked)));
  if (isNewest()) answers.replaceChildren(...boxes);
}
const soon = later(show, 250);

function showMet() {
  met.replaceChildren(
    ...history.map((each, place) => {
      const item = document.createElement("li");
      const gone = document.createElement("button");
      gone.type = "button";
      gone.className = "plain";
      gone.textContent = "×";
      gone.setAttribute("aria-label", `Take ${each.title} away`);
      gone.addEventListener("click", () => {
        history.splice(place, 1);
        showMet();
        soon();
      });
      item.append(each.title, " ", gone);
      return item;
    }),
  );
}

function add(key, title) {
  history.push({ key, title });
  showMet();
  soon();
}

function turnTo(name) {
  form.querySelector(`[name=way][value=${name}]`).checked = true;
  for (const part of form.querySelectorAll("[data-way]")) part.hidden = part.dataset.way !== name;
}

const titles = new Map();
const find = later(async (field) => {
  const list = document.getElementById(field.getAttribute("list"));
  const told = await ask(path.replace("/ask/", "/find/"), {
    ranking: form.dataset.ranking,
    wanted: { side: field.dataset.find, text: field.value },
  });
  list.replaceChildren(
    ...told.found.map(([key, title]) => {
      titles.set(key, title || key);
      const option = document.createElement("option");
      option.value = key;
      option.label = title ? `${title} (${key})` : key;
      return option;
    }),
  );
}, 120);

form.addEventListener("input", (event) => {
  const field = event.target;
  if (field.dataset.find) {
    find(field);
    if (field === meet) {
      if (titles.has(field.value) && event.inputType !== "insertText") take(); // chosen from the list
      return;
    }
  }
  if (field.name === "way") turnTo(field.value);
  soon();
});

function take() {
  const key = meet.value.trim();
  if (!key) return;
  add(key, titles.get(key) ?? key);
  meet.value = "";
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (way() === "history" && meet.value) take();
  show();
});

answers.addEventListener("click", (event) => {
  const button = event.target.closest("[data-meet]");
  if (!button) return;
  turnTo("history");
  add(button.dataset.meet, button.dataset.title);
});

known.value = form.dataset.query;
for (const field of form.querySelectorAll("[data-find]")) find(field);
show();
