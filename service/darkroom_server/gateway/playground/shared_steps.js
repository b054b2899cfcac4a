// What shared a denoising step with what, as the server tells it while it happens.
//
// A line for each request of this page, a column for each step that was told of: requests in one column were
// computed together. Images in the step that are no request's of this page are counted below.

import { element } from "./elements.js";
import { byId } from "./form.js";

const MAX_STEP_COUNT = 36;
const MAX_RUN_COUNT = 6;
// Steps are numbered by the worker, anew when it is started anew.
const SAME_STEP_MS = 5000;

let runs = [];
let steps = [];
let isDue = false;

/** Takes in how the last step of a run was shared. `run` has a `letter`, a `prompt` and a `model`. */
export function noteStep(run, batch, now_ms) {
  if (!batch?.batchId) return;
  const images = batch.batchImageCount ?? 1;
  const name = `${run.model} ${batch.batchId} ${images}`;
  let step = steps.find((each) => each.name === name && now_ms - each.seen_ms < SAME_STEP_MS && !each.own.has(run));
  if (!step) steps.push((step = { name, images, seen_ms: now_ms, own: new Map() }));
  step.own.set(run, batch.requestImageCount ?? 1);
  if (!runs.includes(run)) runs.push(run);
  runs = runs.slice(-MAX_RUN_COUNT);
  steps = steps.slice(-MAX_STEP_COUNT);
  if (!isDue) requestAnimationFrame(show);
  isDue = true;
}

const ownCount = (step) => [...step.own.values()].reduce((sum, count) => sum + count, 0);
const images = (count) => `${count} image${count === 1 ? "" : "s"}`;

/** The last step in words. */
function inWords(step) {
  const own = [...step.own].map(([run, count]) => `${count} of ${run.letter}`);
  const others = step.images - ownCount(step);
  const who = others > 0 ? [...own, `${others} of others`] : own;
  return step.images === 1 ? `The last step computed one image, ${who[0].replace("1 of ", "")}'s.` : `The last step computed ${images(step.images)} together: ${who.join(", ")}.`;
}

function cell(text, className, title) {
  return element("td", { textContent: text, className, title });
}

function show() {
  isDue = false;
  const rows = runs.map((run) => element("tr", {},
    element("th", { scope: "row", title: run.prompt }, element("b", { className: `letter hue-${run.hue}`, textContent: run.letter }), element("span", { textContent: run.prompt })),
    ...steps.map((step) => {
      const count = step.own.get(run);
      return count ? cell(count, `took hue-${run.hue}${step.images > count ? " together" : ""}`, `${images(step.images)} in this step`) : cell("", "", "");
    })));
  const others = steps.map((step) => step.images - ownCount(step));
  if (others.some((count) => count > 0))
    rows.push(element("tr", {}, element("th", { scope: "row" }, element("span", { textContent: "other requests" })),
      ...others.map((count) => (count > 0 ? cell(count, "took others together", "") : cell("", "", "")))));
  rows.push(element("tr", { className: "sums" }, element("th", { scope: "row", textContent: "images in the step" }), ...steps.map((step) => cell(step.images, "", ""))));
  byId("lanes").replaceChildren(...rows);
  byId("lanes-text").textContent = inWords(steps.at(-1));
  byId("shared-steps").hidden = false;
  byId("lanes-box").scrollLeft = byId("lanes-box").scrollWidth;
}
