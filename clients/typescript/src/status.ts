/** From a gRPC status and its google.rpc details to an error of this package. */

import { durationMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  Cancelled,
  type DarkroomError,
  DeadlineExceeded,
  type FieldViolation,
  InsufficientCredits,
  InvalidRequest,
  ModelNotFound,
  ModelUnavailable,
  PermissionDenied,
  QueueFull,
  RateLimited,
  ServerError,
  Unauthenticated,
  Unavailable,
} from "./errors.js";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RequestInfoSchema,
  RetryInfoSchema,
} from "./gen/google/rpc/error_details_pb.js";

/** The error that says what a failed call means; `server` names the one that was called. */
export function errorOf(failed: ConnectError, server: string, requestId: string): DarkroomError {
  const [info] = failed.findDetails(ErrorInfoSchema);
  const [retry] = failed.findDetails(RetryInfoSchema);
  const [request] = failed.findDetails(RequestInfoSchema);
  const reason = info?.reason ?? "";
  const retryAfterMs = retry?.retryDelay && durationMs(retry.retryDelay);
  const facts = { reason, requestId: request?.requestId || requestId, cause: failed };
  const message = failed.rawMessage;
  switch (failed.code) {
    case Code.Unavailable:
      // Without details the status is the transport's own: say which server it is about.
      return reason === "QUEUE_FULL"
        ? new QueueFull(message, { ...facts, retryAfterMs })
        : new Unavailable(reason ? message : `${server} is not available: ${message}`, { ...facts, retryAfterMs });
    case Code.ResourceExhausted:
      if (reason === "OUT_OF_DEVICE_MEMORY") return new ServerError(message, facts);
      if (reason === "INSUFFICIENT_CREDITS") return new InsufficientCredits(message, facts);
      if (reason || retryAfterMs !== undefined) return new RateLimited(message, { ...facts, retryAfterMs });
      // Without details: the transport's word for a message over the size limit.
      return new InvalidRequest(message, facts);
    case Code.InvalidArgument:
    case Code.OutOfRange:
      return new InvalidRequest(message, { ...facts, violations: violationsOf(failed) });
    case Code.NotFound:
      return new ModelNotFound(message, facts);
    case Code.FailedPrecondition:
      return new ModelUnavailable(message, facts);
    case Code.Unauthenticated:
      return new Unauthenticated(message, facts);
    case Code.PermissionDenied:
      return new PermissionDenied(message, facts);
    case Code.DeadlineExceeded:
      return new DeadlineExceeded(message, facts);
    case Code.Canceled:
      return new Cancelled(message, facts);
    default:
      return new ServerError(`${message} (request ${facts.requestId})`, facts);
  }
}

function violationsOf(failed: ConnectError): FieldViolation[] {
  return failed
    .findDetails(BadRequestSchema)
    .flatMap((bad) => bad.fieldViolations)
    .map(({ field, description, reason }) => ({ field, description, reason }));
}
