// Trainings that go on: their part of the page is asked for anew every other second, while somebody looks at it.

import { ask } from "./net.js";

const EVERY_MS = 2000;

async function renew(part) {
  if (document.hidden || part.contains(document.activeElement)) return;
  const told = await ask(part.dataset.live);
  const box = document.createElement("template");
  box.innerHTML = told.html;
  const open = [...part.querySelectorAll("details")].map((each) => each.open);
  part.replaceChildren(...box.content.firstElementChild.childNodes);
  [...part.querySelectorAll("details")].forEach((each, place) => (each.open = open[place] ?? false));
}

for (const part of document.querySelectorAll("[data-live]")) {
  const again = async () => {
    try {
      await renew(part);
      setTimeout(again, EVERY_MS);
    } catch {
      location.assign("/"); // it is over: its Run is in the list
    }
  };
  setTimeout(again, EVERY_MS);
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-stop]");
  if (!button) return;
  button.disabled = true;
  const told = button.parentElement.querySelector("[role=status]");
  try {
    told.textContent = ` ${(await ask(button.dataset.stop, {})).told}`;
  } catch (error) {
    told.textContent = ` ${error.message}`;
  }
  button.blur();
});
