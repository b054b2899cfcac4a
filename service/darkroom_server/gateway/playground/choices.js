// One of several, as radio buttons: arrows choose, Tab goes past.

/** Fills the group with a button for each `[value, text]`; calls `choose(value)` when one is chosen. */
export function showChoices(group, choices, chosen, choose) {
  group.replaceChildren(...choices.map(([value, text]) => {
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "radio", name: group.id, value, checked: value === chosen });
    input.addEventListener("change", () => choose(value));
    label.append(input, text);
    return label;
  }));
}
