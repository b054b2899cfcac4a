// Finished images, newest first.

import { byId } from "./form.js";

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** What made an image, in words. */
function factsOf(image, parameters, duration_s) {
  const round = (value) => String(Number(value.toFixed(2)));
  return [
    `seed ${image.seed}`,
    `${duration_s.toFixed(1)} s`,
    `${image.widthPx}×${image.heightPx}`,
    `${parameters.stepCount} steps`,
    `guidance ${round(parameters.guidanceScale)}`,
    ...(parameters.strength === undefined ? [] : [`strength ${round(parameters.strength)}`]),
    parameters.scheduler.replace(/Scheduler$/, ""),
    `${parameters.model.replace("models/", "")} version ${parameters.modelVersion}`,
  ];
}

/** One finished image with what made it; `use` takes its file as the next input. */
export function addImage({ image, parameters, prompt, duration_s, use, reuse }) {
  const bytes = Uint8Array.from(atob(image.content), (character) => character.charCodeAt(0));
  const file = new Blob([bytes], { type: image.mediaType });
  const url = URL.createObjectURL(file);
  const extension = image.mediaType.split("/")[1];
  const facts = factsOf(image, parameters, duration_s);
  const figure = element(
    "figure",
    { className: "result" },
    element("img", { src: url, alt: prompt, width: image.widthPx, height: image.heightPx }),
    element(
      "figcaption",
      {},
      element("p", { className: "said", textContent: prompt }),
      element("ul", { className: "facts" }, ...facts.map((text) => element("li", { textContent: text }))),
      element(
        "div",
        { className: "tools" },
        element("a", { href: url, download: `darkroom-${image.seed}.${extension}`, className: "button", textContent: "Download" }),
        element("button", { type: "button", textContent: "Use as input", onclick: () => use(file) }),
        element("button", { type: "button", textContent: "Use seed", onclick: () => reuse(image.seed) }),
      ),
    ),
  );
  byId("empty")?.remove();
  byId("running").after(figure);
}
