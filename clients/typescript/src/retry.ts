/** When a call that the server turned away is tried again. */

import { setTimeout as sleep } from "node:timers/promises";
import { Code, type ConnectError } from "@connectrpc/connect";

const FIRST_WAIT_MS = 200;
const LONGEST_WAIT_MS = 5000;

/**
 * How long to wait before the next try, or undefined when there must be none.
 *
 * Only UNAVAILABLE is tried again. A delay that the server asks for takes the place of the
 * exponential back-off, and a negative one ends the tries. `attempt` counts the tries so far.
 */
export function waitBeforeNextMs(failed: ConnectError, attempt: number, maxAttempts: number): number | undefined {
  if (failed.code !== Code.Unavailable || attempt >= maxAttempts) return undefined;
  const asked = failed.metadata.get("grpc-retry-pushback-ms");
  if (asked === null) {
    // Drawn from within the back-off, so that callers who failed together do not return together.
    return Math.random() * Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** (attempt - 1));
  }
  const askedMs = Number(asked);
  return Number.isInteger(askedMs) && askedMs >= 0 ? askedMs : undefined;
}

/** Waits, but no longer than until the signal is aborted. */
export async function wait(durationMs: number, signal: AbortSignal): Promise<void> {
  await sleep(durationMs, undefined, { signal }).catch(() => undefined);
}
