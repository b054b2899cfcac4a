// The adapters (LoRA) of a request: chosen from the model's own, each with a weight.

import { element } from "./elements.js";

const MAX_COUNT = 8;
// What the slider reaches, which is what is useful; the field beside it takes what the server takes.
const SLIDER_REACH = 2;
const MAX_WEIGHT = 10;
const WEIGHT_STEP = 0.05;

/** An adapter's version in words; the default one needs no number. */
const nameOf = (adapter) => (adapter.isDefault ? adapter.name : `${adapter.name}/${adapter.version}`);

export class Adapters {
  /**
   * Shows what is chosen in `list`, and what may be in `choice`, from where `button` takes it. Calls
   * `changed(text)` with what happened after each change, and `say(words)` for trigger words to be put into the prompt.
   */
  constructor({ list, choice, button, hint }, changed, say) {
    Object.assign(this, { list, choice, button, hint, changed, say });
    this.known = [];
    this.chosen = [];
    button.addEventListener("click", () => this.add());
  }

  /** What the request sends, in this order. */
  values() {
    return this.chosen.map(({ adapter, weight }) => ({ name: nameOf(adapter), ...(Number.isFinite(weight) ? { weight } : {}) }));
  }

  /** Offers the adapters of a model; of those chosen, what it does not have goes. */
  offer(known) {
    // Of versions, the one that requests get unasked comes first.
    const inOrder = (one, other) => one.name.localeCompare(other.name) || Boolean(other.isDefault) - Boolean(one.isDefault) || other.version - one.version;
    this.known = [...known].sort(inOrder);
    this.chosen = this.chosen
      .map((each) => ({ ...each, adapter: known.find((one) => nameOf(one) === nameOf(each.adapter)) }))
      .filter((each) => each.adapter);
    this.show("");
  }

  add() {
    const adapter = this.known.find((each) => nameOf(each) === this.choice.value);
    if (!adapter || this.chosen.length >= MAX_COUNT) return;
    this.chosen.push({ adapter, weight: adapter.defaultWeight ?? 1 });
    this.show(`${nameOf(adapter)} was added.`);
    this.list.lastElementChild.querySelector("[type=range]").focus();
  }

  remove(at) {
    const [{ adapter }] = this.chosen.splice(at, 1);
    this.show(`${nameOf(adapter)} was taken away.`);
    (this.list.querySelectorAll(".away")[Math.min(at, this.chosen.length - 1)] ?? this.choice).focus();
  }

  show(text) {
    this.list.hidden = !this.chosen.length;
    this.list.replaceChildren(...this.chosen.map((each, at) => this.#row(each, at)));
    this.#showChoice();
    this.changed(text);
  }

  /** What is left to be chosen: an adapter is in a request once, whatever its version. */
  #showChoice() {
    const left = this.known.filter((each) => !this.chosen.some(({ adapter }) => adapter.name === each.name));
    this.choice.replaceChildren(...left.map((each) => new Option(nameOf(each), nameOf(each))));
    const isFull = this.chosen.length >= MAX_COUNT;
    this.choice.parentElement.hidden = isFull || !left.length;
    this.hint.textContent = isFull ? `A request takes at most ${MAX_COUNT}.` : "They are added in this order; a weight below 0 takes away what one adds.";
  }

  #row(entry, at) {
    const name = nameOf(entry.adapter);
    const slider = element("input", { type: "range", min: -SLIDER_REACH, max: SLIDER_REACH, step: WEIGHT_STEP, value: entry.weight, ariaLabel: `Weight of ${name}` });
    const field = element("input", { type: "number", min: -MAX_WEIGHT, max: MAX_WEIGHT, step: "any", value: entry.weight, ariaLabel: `Weight of ${name}, as a number` });
    const take = (source, other) => () => {
      // A field that is empty asks for the adapter's own weight.
      entry.weight = source.value === "" ? NaN : Number(source.value);
      other.value = source.value === "" ? (entry.adapter.defaultWeight ?? 1) : source.value;
      this.changed("");
    };
    slider.addEventListener("input", take(slider, field));
    field.addEventListener("input", take(field, slider));
    field.placeholder = entry.adapter.defaultWeight ?? 1;
    const away = element("button", { type: "button", className: "away", textContent: "×", title: "Take away", ariaLabel: `Take away: ${name}`, onclick: () => this.remove(at) });
    const words = (entry.adapter.triggerWords ?? []).map((word) =>
      element("button", { type: "button", className: "chip", textContent: `+ ${word}`, title: "Put these words, which it was trained with, into the prompt", onclick: () => this.say(word) }));
    return element("li", { className: "adapter" },
      element("span", { className: "adapter-name", textContent: name, title: name }), away,
      element("span", { className: "unit" }, slider, field),
      ...(words.length ? [element("span", { className: "chips" }, ...words)] : []));
  }
}
