// Requests that are being made: a card for each, with its progress and, where there is one, a preview.

import { run as send } from "./api.js";
import { element } from "./elements.js";
import { byId } from "./form.js";
import { noteStep } from "./shared_steps.js";

const STAGES = { STAGE_ENCODE: "reading the prompt", STAGE_DENOISE: "denoising" };
const HUE_COUNT = 6;
// A browser has six connections to a host, and one is for everything else.
export const MAX_RUN_COUNT = 5;

const running = new Set();
let begunCount = 0;

/** How many requests are being made. */
export const runCount = () => running.size;

/** Cancels every one of them. */
export function cancelAll() {
  for (const each of running) each.controller.abort();
}

/** Tells those who hear the page rather than see it. */
function announce(text) {
  if (byId("announcement").textContent !== text) byId("announcement").textContent = text;
}

/** One request: makes it, shows it, and calls `tell(name, event)` for what the page must do. */
export class Run {
  constructor(task, request, tell) {
    this.controller = new AbortController();
    this.task = task;
    this.request = request;
    this.prompt = request.prompt;
    this.model = request.model;
    this.tell = tell;
    this.letter = String.fromCharCode(65 + (begunCount % 26));
    this.hue = begunCount % HUE_COUNT;
    this.started_ms = performance.now();
    begunCount += 1;
    this.card = this.#card();
  }

  #card() {
    this.preview = element("img", { className: "preview", alt: "What the image looks like so far", hidden: true });
    this.bar = element("progress", {});
    this.bar.setAttribute("aria-label", `Progress of request ${this.letter}`);
    this.stage = element("span", { className: "stage" });
    return element("div", { className: "run-card" }, this.preview, element("div", {},
      element("p", { className: "said" }, element("b", { className: `letter hue-${this.hue}`, textContent: this.letter }), " ", this.prompt || "no prompt"),
      this.bar,
      element("div", { className: "stage-line" }, this.stage, element("button", { type: "button", textContent: "Stop", ariaLabel: `Stop request ${this.letter}`, onclick: () => this.controller.abort() }))));
  }

  /** Resolves at the end; throws what went wrong. */
  async make() {
    running.add(this);
    byId("running").prepend(this.card);
    byId("running").hidden = false;
    // In one column the form may be all that is seen.
    if (matchMedia("(max-width: 760px)").matches) byId("running").scrollIntoView({ block: "nearest" });
    this.show("sending");
    try {
      await send(this.task.method, this.request, this.controller.signal, (name, event) => this.#take(name, event));
    } finally {
      running.delete(this);
      this.card.remove();
      byId("running").hidden = !running.size;
    }
  }

  show(text, done, total) {
    this.stage.textContent = text;
    // Not every step of it: only what is done changes.
    announce(text.split(",")[0]);
    if (total) Object.assign(this.bar, { max: total, value: done ?? 0 });
    else this.bar.removeAttribute("value");
  }

  #take(name, event) {
    if (name === "accepted") this.show("accepted");
    else if (name === "queued") {
      const { aheadCount, modelLoading } = event.queued;
      this.show(modelLoading ? "waiting for the model to load" : aheadCount ? `${aheadCount} ahead in the queue` : "next in the queue");
    } else if (name === "progress") {
      const { stage, completedStepCount = 0, totalStepCount, batch } = event.progress;
      const steps = totalStepCount ? `, step ${completedStepCount} of ${totalStepCount}` : "";
      const sharedBy = batch?.batchImageCount > 1 ? `, ${batch.batchImageCount} images in the step` : "";
      this.show((STAGES[stage] ?? "working") + steps + sharedBy, completedStepCount, totalStepCount);
      noteStep(this, batch, performance.now());
    } else if (name === "preview") {
      this.preview.src = `data:${event.preview.mediaType};base64,${event.preview.content}`;
      this.preview.hidden = false;
    } else if (name === "image") announce(`Image ready, seed ${event.image.seed}`);
    this.tell(name, event);
  }
}
