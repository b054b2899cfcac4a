// What is wrong with a field, or worth knowing of it: said at the field, until the field changes.

import { element } from "./elements.js";
import { byId } from "./form.js";

const INPUTS = { image: "image-file", mask: "mask", reference_images: "reference-files", adapters: "adapter-choice" };

/** Where notes about a field of the request go, if it is on the page and shown. */
function placeOf(field) {
  const name = field?.split(/[.[]/)[0];
  const place = name && document.querySelector(`[data-field="${name}"], [data-notes="${name}"]`);
  return place && place.checkVisibility() ? { name, place, input: byId(INPUTS[name] ?? name) } : null;
}

/** Says `text` at the field; false if there is no such field to be seen. */
function say(field, text, kind) {
  const found = placeOf(field);
  if (!found) return false;
  const { name, place, input } = found;
  const id = `note-${name}`;
  const before = byId(id);
  if (before?.classList.contains(kind)) text = `${before.textContent} ${text}`;
  const note = element("p", { id, className: `note ${kind}`, textContent: text });
  note.setAttribute("role", kind === "problem" ? "alert" : "status");
  note.dataset.of = name;
  before?.remove();
  if (place.parentElement.classList.contains("grid")) {
    // In a row of small fields it has a row of its own.
    place.after(note);
  } else if (place.matches("fieldset")) {
    // Of several controls, the one that the field is.
    let at = input;
    while (at.parentElement !== place) at = at.parentElement;
    at.after(note);
  } else place.append(note);
  if (input) {
    input.setAttribute("aria-describedby", [...new Set([input.dataset.hint ?? "", id])].join(" ").trim());
    if (kind === "problem") input.setAttribute("aria-invalid", "true");
  }
  return true;
}

/** Says what is wrong and goes there; false if the field is not to be seen. */
export function sayProblem(field, text) {
  if (!say(field, text, "problem")) return false;
  const { name, input, place } = placeOf(field);
  (input ?? place).focus();
  byId(`note-${name}`).scrollIntoView({ block: "nearest" });
  return true;
}

/** Says what the server made of the field; false if the field is not to be seen. */
export function sayWarning(field, text) {
  return say(field, text, "warning");
}

function clear(note) {
  const input = byId(INPUTS[note.dataset.of] ?? note.dataset.of);
  input?.removeAttribute("aria-invalid");
  if (input?.dataset.hint) input.setAttribute("aria-describedby", input.dataset.hint);
  else input?.removeAttribute("aria-describedby");
  note.remove();
}

/** Takes back what was said of a field, or of all. */
export function clearNotes(name) {
  for (const note of document.querySelectorAll(".note")) if (!name || note.dataset.of === name) clear(note);
}

/**
 * A note goes when its field changes: at once, and not when the field is left. What moved the page then
 * would take a button away from under the pointer that is pressing it.
 */
export function connectNotes() {
  document.addEventListener("input", (event) => {
    const place = event.target.closest?.("[data-field], [data-notes]");
    if (place) clearNotes(place.dataset.field ?? place.dataset.notes);
  });
}
