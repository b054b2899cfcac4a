/** A server that says what a test tells it to, on a real port. */

import { createHash } from "node:crypto";
import { createServer, type Http2Server, type ServerHttp2Session } from "node:http2";
import type { AddressInfo } from "node:net";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { HandlerContext } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import {
  type FillRequest,
  type GenerateRequest,
  type GenerationEvent,
  GenerationEvent_FinishReason,
  GenerationEventSchema,
  ImageService,
} from "../gen/darkroom/v1/image_service_pb.js";

type Request = GenerateRequest | FillRequest;
export type Script = (request: Request, context: HandlerContext) => AsyncIterable<GenerationEvent>;

export class ScriptedServer {
  scripts: Script[] = [];
  requests: Request[] = [];
  headers: Headers[] = [];
  url = "";
  #server: Http2Server | undefined;
  #sessions = new Set<ServerHttp2Session>();

  async start(): Promise<void> {
    const play = this.#play.bind(this);
    const routes = connectNodeAdapter({
      routes: (router) => router.service(ImageService, { generate: play, fill: play }),
    });
    const server = createServer(routes);
    server.on("session", (session) => this.#sessions.add(session));
    await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
    this.#server = server;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  stop(): void {
    for (const session of this.#sessions) session.destroy();
    this.#server?.close();
  }

  async *#play(request: Request, context: HandlerContext) {
    this.requests.push(request);
    this.headers.push(context.requestHeader);
    const script = this.scripts.shift();
    if (!script) throw new Error("no script is left");
    for await (const event of script(request, context)) yield { event };
  }
}

/** A call that sends these events and ends well. */
export function says(...events: GenerationEvent[]): Script {
  return async function* () {
    yield* events;
  };
}

/** A call that sends these events and then fails. */
export function fails(error: Error, ...events: GenerationEvent[]): Script {
  return async function* () {
    yield* events;
    throw error;
  };
}

type EventInit = MessageInitShape<typeof GenerationEventSchema>["event"];

function made(event: NonNullable<EventInit>): GenerationEvent {
  return create(GenerationEventSchema, { event });
}

export function accepted(): GenerationEvent {
  return made({ case: "accepted", value: { generationId: "g-1", parameters: { model: "models/scripted" } } });
}

export function progress(completedStepCount: number): GenerationEvent {
  return made({ case: "progress", value: { completedStepCount, totalStepCount: 9 } });
}

export function announce(content: Uint8Array, imageIndex = 0, changes: object = {}): GenerationEvent {
  const value = {
    imageIndex,
    mediaType: "image/png",
    seed: BigInt(7 + imageIndex),
    sizeBytes: BigInt(content.length),
    sha256: createHash("sha256").update(content).digest(),
    finishReason: GenerationEvent_FinishReason.SUCCESS,
    ...changes,
  };
  return made({ case: "image", value });
}

export function chunk(content: Uint8Array, offset = 0, imageIndex = 0): GenerationEvent {
  return made({ case: "chunk", value: { content, offsetBytes: BigInt(offset), imageIndex } });
}

export function completed(imageCount = 1): GenerationEvent {
  return made({ case: "completed", value: { imageCount } });
}
