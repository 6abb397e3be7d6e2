// Swap and roll back, as the administrator of the service.

import { ask, problem } from "./net.js";

const form = document.getElementById("change");
const told = document.getElementById("told");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const isSwap = event.submitter?.value !== "back";
  const body = { model: form.elements.model.value.trim(), token: form.elements.token.value };
  if (isSwap) body.candidate = form.elements.candidate.value.trim();
  for (const button of form.querySelectorAll("button")) button.disabled = true;
  told.textContent = isSwap ? "The candidate is loaded and looked at …" : "The version before is loaded …";
  try {
    const found = await ask("/service/change", body);
    told.textContent = `${found.model} is now ${found.model_version}; before it was ${found.previous_version}.`;
  } catch (error) {
    told.replaceChildren(problem(error));
  }
  for (const button of form.querySelectorAll("button")) button.disabled = false;
});
