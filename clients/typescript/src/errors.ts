/** What a call can fail of. `message` of each is one line fit for a person. */

/** Root of the tree. */
export class DarkroomError extends Error {
  /** The service's stable word for the cause; empty where the error did not come from the service. */
  readonly reason: string;
  /** Finds the call in the service's logs. */
  readonly requestId: string;

  constructor(message: string, facts: Facts = {}) {
    super(message.split(/\s+/).join(" ").trim() || new.target.name, { cause: facts.cause });
    this.name = new.target.name;
    this.reason = facts.reason ?? "";
    this.requestId = facts.requestId ?? "";
  }
}

export interface Facts {
  reason?: string;
  requestId?: string;
  cause?: unknown;
}

/** One field of the request that is wrong, by its path in the request message. */
export interface FieldViolation {
  field: string;
  description: string;
  reason: string;
}

/** The service will not take this request as it is; `violations` name the fields. */
export class InvalidRequest extends DarkroomError {
  readonly violations: readonly FieldViolation[];

  constructor(message: string, facts: Facts & { violations?: readonly FieldViolation[] } = {}) {
    const violations = facts.violations ?? [];
    super(violations.map((each) => `${each.field}: ${each.description}`).join("; ") || message, facts);
    this.violations = violations;
  }
}

/** The service has no such model, or no such version of it. */
export class ModelNotFound extends DarkroomError {}

/** The model exists but is unloaded or could not be loaded; trying again does not help. */
export class ModelUnavailable extends DarkroomError {}

/** No API key, or one that the service does not know. */
export class Unauthenticated extends DarkroomError {}

/** The API key does not allow this call. */
export class PermissionDenied extends DarkroomError {}

/** The time given was not enough. */
export class DeadlineExceeded extends DarkroomError {}

/** The call was cancelled, by its AbortSignal or otherwise; `cause` is the signal's reason. */
export class Cancelled extends DarkroomError {}

/** Trying again later may help; `retryAfterMs` is the service's advice. */
export class RetryableError extends DarkroomError {
  readonly retryAfterMs: number | undefined;

  constructor(message: string, facts: Facts & { retryAfterMs?: number | undefined } = {}) {
    const { retryAfterMs } = facts;
    super(message + (retryAfterMs === undefined ? "" : ` (try again in ${retryAfterMs / 1000} s)`), facts);
    this.retryAfterMs = retryAfterMs;
  }
}

/** The server cannot be reached, is stopping, or has no room. */
export class Unavailable extends RetryableError {}

/** The server is there but has no room for another request now. */
export class QueueFull extends Unavailable {}

/** This caller's key has had as many requests as it may have, for now. */
export class RateLimited extends RetryableError {}

/** This caller's key has fewer credits left than the request takes. */
export class InsufficientCredits extends DarkroomError {}

/** The service failed, not the request; name `requestId` when you report it. */
export class ServerError extends DarkroomError {}

/** The stream did not carry what it announced: bytes missing, doubled or altered, or no end. */
export class CorruptImage extends DarkroomError {}
