// The caller's key: asked for where the server wants one, kept for this tab only, and how it stands.

import { forgetKey, hasKey, readStanding, useKey } from "./api.js";
import { byId } from "./form.js";

const number = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });

/** How the key stands, in words. */
export function standingText({ id, name, rateLimit, credits }) {
  const parts = [name || `key ${id}`];
  if (credits?.left != null) parts.push(`${number.format(credits.left)} credits left`);
  if (rateLimit) parts.push(`${rateLimit.remaining} of ${rateLimit.limit} requests left`);
  return parts.join(" · ");
}

/** Asks for a key; the page goes on when one is entered. */
function ask() {
  document.body.classList.add("locked");
  byId("key").hidden = byId("key-form").hidden = false;
  byId("standing").hidden = true;
  byId("key-input").focus();
}

/** Shows how the key stands. False when a key is needed first, and has been asked for. */
export async function showStanding(needsKey) {
  if (!needsKey) return true;
  if (!hasKey()) {
    ask();
    return false;
  }
  let standing;
  try {
    standing = await readStanding();
  } catch (error) {
    // A key that the server does not know is of no more use; other errors say nothing of the key.
    if (error.reason === "INVALID_API_KEY") {
      forgetKey();
      ask();
    }
    throw error;
  }
  document.body.classList.remove("locked");
  byId("key").hidden = byId("standing").hidden = false;
  byId("key-form").hidden = true;
  byId("standing-text").textContent = standingText(standing);
  return true;
}

/** Calls `changed` whenever another key is to be used, and `left` before that when one is forgotten. */
export function connectKey(changed, left) {
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const entered = byId("key-input").value.trim();
    if (!entered) return;
    byId("key-input").value = "";
    useKey(entered);
    changed();
  });
  byId("forget-key").addEventListener("click", () => {
    forgetKey();
    left();
    changed();
  });
}
