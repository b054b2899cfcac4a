// Finished images, newest first: kept over a reload, compared, looked at closely.

import { element } from "./elements.js";
import { byId } from "./form.js";
import { forgetKept, keep, listKept } from "./kept_results.js";
import { showViewer } from "./viewer.js";

const MAX_COMPARED_COUNT = 4;

const compared = new Set();
let reuse = { image: () => {}, seed: () => {} };

/** What made an image, in words. */
export function factsOf(image, parameters, duration_s) {
  const round = (value) => String(Number(value.toFixed(2)));
  return [
    `seed ${image.seed}`,
    `${duration_s.toFixed(1)} s`,
    `${image.widthPx}×${image.heightPx}`,
    `${parameters.stepCount} steps`,
    `guidance ${round(parameters.guidanceScale)}`,
    ...(parameters.strength === undefined ? [] : [`strength ${round(parameters.strength)}`]),
    parameters.scheduler.replace(/Scheduler$/, ""),
    ...(parameters.adapters ?? []).map((each) => `${each.name} ${round(each.weight)}`),
    `${parameters.model.replace("models/", "")} version ${parameters.modelVersion}`,
  ];
}

/** The result of an `image` event: everything that is shown of it and kept. */
export function resultOf({ image, parameters, prompt, duration_s, unknown }) {
  const bytes = Uint8Array.from(atob(image.content), (character) => character.charCodeAt(0));
  return {
    file: new Blob([bytes], { type: image.mediaType }),
    name: `darkroom-${image.seed}.${image.mediaType.split("/")[1]}`,
    widthPx: image.widthPx,
    heightPx: image.heightPx,
    seed: image.seed,
    facts: factsOf(image, parameters, duration_s),
    prompt,
    unknown,
  };
}

/** Puts a result before all others. */
export function addResult(result) {
  const shown = { ...result, url: URL.createObjectURL(result.file) };
  const compare = element("button", { type: "button", textContent: "Compare", onclick: () => choose(shown, compare) });
  compare.setAttribute("aria-pressed", "false");
  const zoom = element("button", { type: "button", className: "picture", title: "Look closely", onclick: () => showViewer([shown]) },
    element("img", { src: shown.url, alt: result.prompt || "Image without a prompt", width: result.widthPx, height: result.heightPx }));
  const figure = element("figure", { className: "result" }, zoom, element("figcaption", {},
    element("p", { className: "said", textContent: result.prompt }),
    ...(result.unknown?.length ? [element("p", { className: "unknown" }, "Drawn without ", element("b", { textContent: result.unknown.join(", ") }), ": not taught")] : []),
    element("ul", { className: "facts" }, ...result.facts.map((text) => element("li", { textContent: text }))),
    element("div", { className: "tools" },
      element("a", { href: shown.url, download: result.name, className: "button", textContent: "Download" }),
      element("button", { type: "button", textContent: "Use as input", onclick: () => reuse.image(result.file) }),
      element("button", { type: "button", textContent: "Use seed", onclick: () => reuse.seed(result.seed) }),
      compare,
    ),
  ));
  byId("gallery").prepend(figure);
  byId("empty").hidden = true;
  byId("forget-results").hidden = false;
}

/** Keeps the results of a run for the next time the page is opened. */
export async function keepResults(results) {
  for (const result of results) await keep(result);
}

function choose(shown, button) {
  const isChosen = !compared.has(shown);
  if (isChosen && compared.size === MAX_COMPARED_COUNT) return;
  if (isChosen) compared.add(shown);
  else compared.delete(shown);
  button.setAttribute("aria-pressed", String(isChosen));
  showChosen();
}

function showChosen() {
  byId("compare-bar").hidden = !compared.size;
  byId("compare-text").textContent = compared.size < 2 ? "Choose another one to compare with." : `${compared.size} chosen`;
  byId("compare").disabled = compared.size < 2;
}

function clearChosen() {
  compared.clear();
  for (const button of document.querySelectorAll("#gallery [aria-pressed=true]")) button.setAttribute("aria-pressed", "false");
  showChosen();
}

/** Forgets every result, here and in the browser. */
export async function forgetResults() {
  clearChosen();
  for (const link of document.querySelectorAll("#gallery a")) URL.revokeObjectURL(link.href);
  byId("gallery").replaceChildren();
  byId("empty").hidden = false;
  byId("forget-results").hidden = true;
  await forgetKept();
}

/** Shows what was kept; `useImage(file)` and `useSeed(seed)` take a result into the form. */
export async function connectResults(useImage, useSeed) {
  reuse = { image: useImage, seed: useSeed };
  byId("compare").addEventListener("click", () => showViewer([...compared]));
  byId("compare-none").addEventListener("click", clearChosen);
  byId("forget").addEventListener("click", forgetResults);
  for (const result of await listKept()) addResult(result);
}
