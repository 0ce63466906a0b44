// Sends every form as JSON with the header that only our own pages can set, and goes where the answer says.
"use strict";

async function send(form) {
  const body = {};
  for (const [name, value] of new FormData(form)) body[name] = value;
  const answer = await fetch(form.getAttribute("action"), {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Hub-Console": "1" },
    body: JSON.stringify(body),
    redirect: "error",
  }).catch(() => { throw new Error("the hub cannot be reached; try again"); });
  // What stands between the browser and the hub answers in its own way, which tells a person nothing.
  const told = await answer.json().catch(() => null);
  if (!answer.ok || told === null) throw new Error(told?.detail || `it failed (${answer.status}); try again`);
  if (told.next) {
    window.location.assign(told.next);
    return;
  }
  for (const place of document.querySelectorAll("[data-told]")) {
    place.textContent = told[place.dataset.told] || "";
  }
  for (const hidden of document.querySelectorAll("[data-then]")) hidden.hidden = false;
}

// What one form was told belongs to the next as well: the setup secret and the name.
function copy() {
  for (const field of document.querySelectorAll("[data-same]")) {
    field.value = document.getElementById(field.dataset.same).value;
  }
}

for (const form of document.querySelectorAll("form")) {
  let sending = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (sending) return; // a second click: the first may use up what can be used once
    sending = true;
    const fault = form.querySelector("[data-fault]");
    if (fault) fault.textContent = "";
    copy(); // a browser that fills a field in by itself tells nobody
    try {
      await send(form);
    } catch (error) {
      if (fault) fault.textContent = error.message;
    } finally {
      sending = false;
    }
  });
}

document.addEventListener("input", copy);
copy();
