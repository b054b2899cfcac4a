// One image close up, or several side by side: enlarged and moved together.

import { showChoices } from "./choices.js";
import { element } from "./elements.js";
import { byId } from "./form.js";

const ZOOMS = [["fit", "Fit"], ["1", "1:1"], ["2", "2×"], ["4", "4×"]];

let shown = [];

/** Opens the viewer on results. */
export function showViewer(results) {
  shown = results;
  byId("panes").replaceChildren(...results.map(pane));
  byId("panes").style.setProperty("--count", results.length);
  showChoices(byId("zoom"), ZOOMS, "fit", enlarge);
  enlarge("fit");
  byId("viewer").showModal();
}

/** One image with what sets it apart from the others. */
function pane(result) {
  const others = shown.filter((each) => each !== result);
  const isOwn = (fact) => others.length > 0 && !others.every((each) => each.facts.includes(fact));
  const frame = element("div", { className: "frame", tabIndex: 0, onscroll: follow },
    element("img", { src: result.url, alt: result.prompt || "Image without a prompt", width: result.widthPx, height: result.heightPx }));
  frame.setAttribute("role", "group");
  frame.setAttribute("aria-label", `Image with seed ${result.seed}`);
  return element("figure", {}, frame, element("figcaption", {},
    element("p", { className: "said", textContent: result.prompt }),
    element("ul", { className: "facts" }, ...result.facts.map((text) => element("li", { textContent: text, className: isOwn(text) ? "own" : "" })))));
}

function enlarge(zoom) {
  byId("panes").dataset.zoom = zoom;
  for (const image of document.querySelectorAll("#panes img")) {
    const scale = zoom === "fit" ? 0 : Number(zoom);
    image.style.width = scale ? `${image.getAttribute("width") * scale}px` : "";
    image.style.height = scale ? `${image.getAttribute("height") * scale}px` : "";
  }
  // What is looked for is as a rule in the middle.
  for (const frame of document.querySelectorAll("#panes .frame"))
    frame.scrollTo((frame.scrollWidth - frame.clientWidth) / 2, (frame.scrollHeight - frame.clientHeight) / 2);
}

/** Moves the other panes to the same place. */
function follow(event) {
  for (const frame of document.querySelectorAll("#panes .frame")) {
    if (frame === event.target || (frame.scrollLeft === event.target.scrollLeft && frame.scrollTop === event.target.scrollTop)) continue;
    frame.scrollTo(event.target.scrollLeft, event.target.scrollTop);
  }
}

export function connectViewer() {
  byId("viewer-close").addEventListener("click", () => byId("viewer").close());
  byId("viewer").addEventListener("close", () => byId("panes").replaceChildren());
}
