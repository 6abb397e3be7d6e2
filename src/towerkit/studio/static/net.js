// Asking the studio, and putting what it answers into the page. Markup comes from the studio alone, which escapes all data.

export async function ask(path, body) {
  const options = { headers: { Accept: "application/json" }, credentials: "same-origin" };
  if (body !== undefined) {
    options.method = "POST";
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const answer = await fetch(path, options);
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    const error = content.error ?? { rule: `The studio answered ${answer.status}.`, received: "", next: "" };
    const received = error.received ? ` Received: ${error.received}.` : "";
    throw new Error([error.rule + received, error.next].filter(Boolean).join(" "));
  }
  return content;
}

export function problem(error) {
  const box = document.createElement("div");
  box.className = "problem";
  box.setAttribute("role", "alert");
  box.textContent = error.message;
  return box;
}

// What is wanted by the newest call only; an answer that comes late is dropped.
export function newest() {
  let number = 0;
  return () => {
    const mine = ++number;
    return () => mine === number;
  };
}

export function later(call, ms) {
  let timer = 0;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => call(...args), ms);
  };
}
