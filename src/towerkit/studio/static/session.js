import { ask, problem } from "./net.js";

const form = document.getElementById("sign-in");
form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const told = document.getElementById("told");
  try {
    location.assign((await ask("/sign-in", { token: form.elements.token.value })).to);
  } catch (error) {
    told.replaceChildren(problem(error));
    form.elements.token.select();
  }
});

document.querySelector("[data-leave]")?.addEventListener("click", async () => {
  location.assign((await ask("/sign-out", {})).to);
});
