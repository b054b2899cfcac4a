// Finished images, newest first.

import { byId } from "./form.js";

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** One finished image with what made it; `use` takes its file as the next input. */
export function addImage({ image, parameters, prompt, duration_s, use, reuse }) {
  const bytes = Uint8Array.from(atob(image.content), (character) => character.charCodeAt(0));
  const file = new Blob([bytes], { type: image.mediaType });
  const url = URL.createObjectURL(file);
  const extension = image.mediaType.split("/")[1];
  const facts = [
    `seed ${image.seed}`,
    `${duration_s.toFixed(1)} s`,
    `${image.widthPx}×${image.heightPx}`,
    `${parameters.stepCount} steps`,
    `guidance ${Number(parameters.guidanceScale.toFixed(2))}`,
    parameters.scheduler.replace(/Scheduler$/, ""),
    `${parameters.model.replace("models/", "")} version ${parameters.modelVersion}`,
  ];
  if (parameters.strength !== undefined) facts.splice(5, 0, `strength ${Number(parameters.strength.toFixed(2))}`);
  const figure = element(
    "figure",
    { className: "result" },
    element("img", { src: url, alt: prompt }),
    element(
      "figcaption",
      {},
      element("p", { className: "said", textContent: prompt }),
      element("p", { className: "hint", textContent: facts.join(" · ") }),
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
  byId("gallery").prepend(figure);
}
