// Try it, for a model that predicts: the answer follows the form as it is filled in.

import { ask, later, newest, problem } from "./net.js";

const form = document.getElementById("predict");
const answers = document.getElementById("answers");
const told = document.getElementById("from");
const turn = newest();
const files = new Map();
const MOST_BYTES = 8_000_000;

function row() {
  const found = {};
  for (const field of form.querySelectorAll("[data-column]")) {
    found[field.dataset.column] = field.value === "" ? null : field.dataset.shape === "number" ? field.valueAsNumber : field.value;
  }
  return found;
}

async function show() {
  const isNewest = turn();
  const off = [...form.querySelectorAll("[data-part]")].filter((each) => !each.checked).map((each) => each.dataset.part);
  const box = document.createElement("div");
  try {
    box.innerHTML = (await ask(form.dataset.path, { row: row(), files: Object.fromEntries(files), off })).html;
  } catch (error) {
    box.replaceChildren(problem(error));
  }
  if (isNewest()) answers.replaceChildren(box);
}
const soon = later(show, 250);

function look(place, content, type) {
  const box = place.querySelector("[data-look]");
  box.replaceChildren();
  if (content === null) {
    files.delete(place.dataset.file);
    return;
  }
  files.set(place.dataset.file, content);
  if (place.dataset.shape === "picture") {
    const image = document.createElement("img");
    image.alt = "The picture that is asked about";
    image.src = `data:${type};base64,${content}`;
    box.append(image);
  } else {
    box.append("A sound is chosen.");
  }
}

function read(place, file) {
  if (!file) return;
  if (file.size > MOST_BYTES) {
    answers.replaceChildren(problem(new Error(`A file has ${MOST_BYTES.toLocaleString("en")} bytes at most; received ${file.size.toLocaleString("en")}.`)));
    return;
  }
  const reader = new FileReader();
  reader.addEventListener("load", () => {
    look(place, reader.result.slice(reader.result.indexOf(",") + 1), file.type);
    soon();
  });
  reader.readAsDataURL(file);
}

for (const place of form.querySelectorAll("[data-file]")) {
  const picker = place.querySelector("input");
  picker.addEventListener("change", () => read(place, picker.files[0]));
  place.querySelector("[data-clear]").addEventListener("click", () => {
    picker.value = "";
    look(place, null);
    soon();
  });
  place.addEventListener("dragover", (event) => {
    event.preventDefault();
    place.classList.add("over");
  });
  place.addEventListener("dragleave", () => place.classList.remove("over"));
  place.addEventListener("drop", (event) => {
    event.preventDefault();
    place.classList.remove("over");
    read(place, event.dataTransfer.files[0]);
  });
}

document.getElementById("another").addEventListener("click", async () => {
  try {
    const found = await ask(form.dataset.path.replace("/predict/", "/row/"), { number: Math.floor(Math.random() * 1e6) });
    for (const field of form.querySelectorAll("[data-column]")) field.value = found.row[field.dataset.column] ?? "";
    for (const place of form.querySelectorAll("[data-file]")) look(place, found.row[place.dataset.file], "image/png");
    told.textContent = found.from;
    show();
  } catch (error) {
    told.textContent = error.message;
  }
});

form.addEventListener("input", (event) => {
  if (event.target.type !== "file") soon();
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  show();
});
show();
