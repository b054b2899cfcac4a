// Reference images, of an edit or beside an image to change: chosen or dropped several at once, put in order, taken away.

import { element } from "./elements.js";

/** The base64 of a file that the browser can show as an image; rejects for any other. */
export async function readPicture(file) {
  const url = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
  const shown = new Image();
  shown.src = url;
  await shown.decode();
  return { url, base64: url.split(",")[1], width: shown.naturalWidth, height: shown.naturalHeight };
}

export class References {
  /** Shows the images in `list`; calls `changed(text)` with what happened after each change. */
  constructor(list, changed) {
    this.list = list;
    this.changed = changed;
    this.images = [];
    this.kept = { edit: this.images };
    this.maxCount = 1;
    this.dragged = null;
  }

  /** What the request sends, in this order. */
  base64() {
    return this.images.map((each) => each.base64);
  }

  /** Takes files in their order; returns what is to be said of those that are not taken. */
  async add(files) {
    const read = await Promise.allSettled([...files].map(readPicture));
    const good = read.filter((each) => each.status === "fulfilled").map((each) => each.value);
    // A model of one image takes another in its place.
    if (this.maxCount === 1 && good.length) this.images.length = 0;
    const room = this.maxCount - this.images.length;
    this.images.push(...good.slice(0, room));
    this.show(`${this.images.length} of at most ${this.maxCount} images.`);
    if (good.length < read.length) return "What is no image that the browser can show was left out.";
    return good.length > room ? `This model takes ${this.maxCount === 1 ? "one image" : `at most ${this.maxCount} images`}; others were left out.` : "";
  }

  /** Shows those of a `use`, no more than the model takes; those of others are kept for when it is theirs again. */
  offer(use, maxCount) {
    this.images = this.kept[use] ??= [];
    this.maxCount = maxCount;
    this.images.length = Math.min(this.images.length, maxCount);
    this.show("");
  }

  move(from, to) {
    if (to < 0 || to >= this.images.length || from === to) return;
    this.images.splice(to, 0, ...this.images.splice(from, 1));
    this.show(`Image ${from + 1} is now image ${to + 1}.`);
  }

  remove(at) {
    this.images.splice(at, 1);
    this.show(`Image ${at + 1} was taken away.`);
    (this.list.querySelectorAll(".away")[Math.min(at, this.images.length - 1)] ?? this.list).focus();
  }

  show(text) {
    this.list.hidden = !this.images.length;
    this.list.replaceChildren(...this.images.map((image, at) => this.card(image, at)));
    this.changed(text);
  }

  card(image, at) {
    const last = this.images.length - 1;
    const button = (className, label, sign, disabled, act) => {
      const made = element("button", { type: "button", className, textContent: sign, title: label, disabled, onclick: act });
      made.setAttribute("aria-label", `${label}: image ${at + 1}`);
      return made;
    };
    const moved = (to) => () => {
      this.move(at, to);
      // The same button of the same image, or the other one where this has come to an end.
      const card = this.list.children[to];
      (card.querySelector(to < at ? ".earlier:enabled" : ".later:enabled") ?? card.querySelector("button:enabled")).focus();
    };
    const made = element(
      "li",
      { draggable: this.maxCount > 1, className: "reference" },
      element("img", { src: image.url, alt: `Image ${at + 1}, ${image.width} by ${image.height} pixels`, draggable: false }),
      // Of one there is no order.
      ...(this.maxCount > 1 ? [element("span", { className: "place", textContent: at + 1 })] : []),
      element(
        "span",
        { className: "moves" },
        ...(this.maxCount > 1 ? [button("earlier", "Earlier", "←", at === 0, moved(at - 1)), button("later", "Later", "→", at === last, moved(at + 1))] : []),
        button("away", "Take away", "×", false, () => this.remove(at)),
      ),
    );
    this.connectDrag(made, at);
    return made;
  }

  connectDrag(card, at) {
    card.addEventListener("dragstart", (event) => {
      this.dragged = at;
      event.dataTransfer.effectAllowed = "move";
      event.dataTransfer.setData("text/plain", String(at + 1));
    });
    card.addEventListener("dragend", () => { this.dragged = null; });
    card.addEventListener("dragover", (event) => {
      if (this.dragged === null) return;
      event.preventDefault();
      event.stopPropagation();
      card.classList.toggle("over", this.dragged !== at);
    });
    card.addEventListener("dragleave", () => card.classList.remove("over"));
    card.addEventListener("drop", (event) => {
      if (this.dragged === null) return;
      event.preventDefault();
      event.stopPropagation();
      this.move(this.dragged, at);
    });
  }
}
