/** The client over a real connection. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RequestInfoSchema,
  RetryInfoSchema,
} from "../gen/google/rpc/error_details_pb.js";
import * as darkroom from "../index.js";
import { accepted, announce, chunk, completed, fails, progress, says, ScriptedServer } from "./scripted-server.js";

const PICTURE = new TextEncoder().encode("0123456789");
const GOOD = says(accepted(), announce(PICTURE), chunk(PICTURE), completed());

let server: ScriptedServer;
let client: darkroom.Client;

beforeEach(async () => {
  server = new ScriptedServer();
  await server.start();
  client = new darkroom.Client(server.url, { timeoutMs: 30_000 });
});

afterEach(() => {
  client.close();
  server.stop();
});

function draw(settings: darkroom.CallSettings = {}) {
  return darkroom.collect(client.generate({ prompt: "a cat", seed: 7n }, settings));
}

function info(reason: string) {
  return { desc: ErrorInfoSchema, value: { reason, domain: "darkroom.test" } };
}

function busy(pushbackMs: number) {
  const headers = { "grpc-retry-pushback-ms": String(pushbackMs) };
  return fails(new ConnectError("no room", Code.Unavailable, headers, [info("QUEUE_FULL")]));
}

test("an image in chunks arrives whole", async () => {
  const [first, rest] = [PICTURE.subarray(0, 4), PICTURE.subarray(4)];
  server.scripts = [says(accepted(), progress(1), announce(PICTURE), chunk(first), chunk(rest, 4), completed())];
  const generation = await draw({ requestId: "mine" });
  assert.deepEqual(generation.images.map((image) => image.content), [PICTURE]);
  assert.equal(generation.images[0]?.seed, 7n);
  assert.equal(generation.accepted.requestId, "mine");
  assert.deepEqual(server.requests.map((request) => request.prompt), ["a cat"]);
  assert.equal(server.headers[0]?.get("x-request-id"), "mine");
});

test("fill sends image and mask", async () => {
  server.scripts = [GOOD];
  const [image, mask] = [Uint8Array.of(1), Uint8Array.of(2)];
  await darkroom.collect(client.fill({ prompt: "a star", image, mask }));
  const [request] = server.requests;
  assert(request?.$typeName === "darkroom.v1.FillRequest");
  assert.deepEqual([request.image?.source.value, request.mask?.source.value], [image, mask]);
});

test("the API key rides on every call", async () => {
  server.scripts = [GOOD];
  const known = new darkroom.Client(server.url, { apiKey: "t-1" });
  await darkroom.collect(known.generate({ prompt: "a cat" }));
  known.close();
  assert.equal(server.headers[0]?.get("authorization"), "Bearer t-1");
});

const CORRUPT = {
  "altered bytes": [accepted(), announce(PICTURE), chunk(PICTURE.map((byte) => byte ^ 1)), completed()],
  "missing bytes": [accepted(), announce(PICTURE), chunk(PICTURE.subarray(1), 1), completed()],
  "doubled bytes": [accepted(), announce(PICTURE), chunk(PICTURE.subarray(0, 4)), chunk(PICTURE, 0), completed()],
  "too many bytes": [accepted(), announce(PICTURE, 0, { sizeBytes: 9n }), chunk(PICTURE), completed()],
  "too few bytes": [accepted(), announce(PICTURE), chunk(PICTURE.subarray(0, 4)), completed()],
  "bytes of another image": [accepted(), announce(PICTURE), chunk(PICTURE, 0, 1), completed()],
  "bytes of no image": [accepted(), chunk(PICTURE), completed()],
  "an image twice": [accepted(), announce(PICTURE), chunk(PICTURE), announce(PICTURE), chunk(PICTURE), completed(2)],
  "an image too few": [accepted(), announce(PICTURE), chunk(PICTURE), completed(2)],
  "no end": [accepted(), announce(PICTURE), chunk(PICTURE)],
  "no beginning": [announce(PICTURE), chunk(PICTURE), completed()],
  "more after the end": [accepted(), completed(0), progress(1)],
};

for (const [name, events] of Object.entries(CORRUPT)) {
  test(`a stream with ${name} is corrupt`, async () => {
    server.scripts = [says(...events)];
    await assert.rejects(draw(), darkroom.CorruptImage);
  });
}

test("unavailable twice and then well is well", async () => {
  server.scripts = [busy(1), busy(1), GOOD];
  assert.equal((await draw()).images.length, 1);
  assert.equal(server.requests.length, 3);
  assert.equal(new Set(server.headers.map((headers) => headers.get("x-request-id"))).size, 1);
});

test("after the fourth try the error is told", async () => {
  server.scripts = [busy(1), busy(1), busy(1), busy(1), GOOD];
  await assert.rejects(draw(), darkroom.QueueFull);
  assert.equal(server.requests.length, 4);
});

test("the server can forbid another try", async () => {
  server.scripts = [busy(-1), GOOD];
  await assert.rejects(draw(), darkroom.QueueFull);
  assert.equal(server.requests.length, 1);
});

test("retrying can be turned off", async () => {
  server.scripts = [busy(1), GOOD];
  const once = new darkroom.Client(server.url, { maxAttempts: 1 });
  await assert.rejects(darkroom.collect(once.generate({ prompt: "a cat" })), darkroom.QueueFull);
  once.close();
});

test("what failed after it began is not tried again", async () => {
  server.scripts = [fails(new ConnectError("gone", Code.Unavailable), accepted()), GOOD];
  await assert.rejects(draw(), darkroom.Unavailable);
  assert.equal(server.requests.length, 1);
});

test("a wait beyond the deadline is not begun", async () => {
  server.scripts = [busy(60_000), GOOD];
  await assert.rejects(draw({ timeoutMs: 5_000 }), darkroom.DeadlineExceeded);
});

test("an abort while waiting for the next try ends the call", async () => {
  const controller = new AbortController();
  server.scripts = [
    (...call) => {
      setImmediate(() => controller.abort());
      return busy(60_000)(...call);
    },
  ];
  await assert.rejects(draw({ signal: controller.signal }), darkroom.Cancelled);
  assert.equal(server.requests.length, 1);
});

/** A call that goes on until it is cancelled, and whether it was. */
function endless() {
  let cancel: () => void;
  const cancelled = new Promise<void>((resolve) => (cancel = resolve));
  server.scripts = [
    async function* (_request, context) {
      context.signal.addEventListener("abort", () => cancel());
      yield accepted();
      await cancelled;
    },
  ];
  return cancelled;
}

test("an aborted signal cancels the call, and its reason is the cause", async () => {
  const cancelled = endless();
  const controller = new AbortController();
  const reading = async () => {
    for await (const event of client.generate({ prompt: "a cat" }, { signal: controller.signal })) {
      assert.equal(event.kind, "accepted");
      controller.abort("enough");
    }
  };
  await assert.rejects(reading, { name: "Cancelled", cause: "enough" });
  await cancelled;
});

test("leaving the loop cancels the call", async () => {
  const cancelled = endless();
  for await (const _ of client.generate({ prompt: "a cat" })) break;
  await cancelled;
});

test("a deadline that passes is told", async () => {
  const cancelled = endless();
  await assert.rejects(draw({ timeoutMs: 50 }), darkroom.DeadlineExceeded);
  await cancelled;
});

test("nobody there is unavailable, and says where", async () => {
  const nobody = new darkroom.Client("http://127.0.0.1:1", { maxAttempts: 1 });
  const call = darkroom.collect(nobody.generate({ prompt: "a cat" }));
  await assert.rejects(call, { name: "Unavailable", message: /127\.0\.0\.1:1 is not available/ });
});

const STATUSES: [Code, string, new (message: string) => darkroom.DarkroomError][] = [
  [Code.InvalidArgument, "INVALID_PARAMETER", darkroom.InvalidRequest],
  [Code.OutOfRange, "", darkroom.InvalidRequest],
  [Code.NotFound, "MODEL_NOT_FOUND", darkroom.ModelNotFound],
  [Code.FailedPrecondition, "MODEL_UNAVAILABLE", darkroom.ModelUnavailable],
  [Code.Unauthenticated, "", darkroom.Unauthenticated],
  [Code.PermissionDenied, "", darkroom.PermissionDenied],
  [Code.ResourceExhausted, "RATE_LIMITED", darkroom.RateLimited],
  [Code.ResourceExhausted, "INSUFFICIENT_CREDITS", darkroom.InsufficientCredits],
  [Code.ResourceExhausted, "OUT_OF_DEVICE_MEMORY", darkroom.ServerError],
  [Code.ResourceExhausted, "", darkroom.InvalidRequest],
  [Code.Internal, "GENERATION_FAILED", darkroom.ServerError],
  [Code.Unknown, "", darkroom.ServerError],
];

for (const [code, reason, kind] of STATUSES) {
  test(`${Code[code]} ${reason} is ${kind.name}`, async () => {
    server.scripts = [fails(new ConnectError("so it is", code, undefined, reason ? [info(reason)] : []))];
    await assert.rejects(draw(), (error) => {
      assert(error instanceof darkroom.DarkroomError);
      assert.deepEqual([error.name, error.reason], [kind.name, reason]);
      return true;
    });
  });
}

test("an error carries what the details say", async () => {
  const violation = { field: "step_count", description: "must be at least 1", reason: "INVALID_PARAMETER" };
  const bad = { desc: BadRequestSchema, value: { fieldViolations: [violation] } };
  const id = { desc: RequestInfoSchema, value: { requestId: "r-9" } };
  const delay = { desc: RetryInfoSchema, value: create(RetryInfoSchema, { retryDelay: { seconds: 1n, nanos: 5e8 } }) };
  server.scripts = [
    fails(new ConnectError("wrong", Code.InvalidArgument, undefined, [info("INVALID_PARAMETER"), bad, id])),
    fails(new ConnectError("slow down", Code.ResourceExhausted, undefined, [delay])),
  ];
  await assert.rejects(draw(), {
    name: "InvalidRequest",
    message: "step_count: must be at least 1",
    violations: [violation],
    requestId: "r-9",
  });
  await assert.rejects(draw(), { name: "RateLimited", retryAfterMs: 1500 });
});
