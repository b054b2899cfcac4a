// Elements of the page, made in one expression.

/** A new element with properties and children; strings become text. */
export function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}
