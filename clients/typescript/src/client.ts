/** The client. */

import { randomUUID } from "node:crypto";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type CallOptions, type Client as Stub, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport, type GrpcTransportOptions, Http2SessionManager } from "@connectrpc/connect-node";
import { EventAssembler } from "./assembly.js";
import { Cancelled, CorruptImage, type DarkroomError } from "./errors.js";
import type { Event, GeneratedImage, Generation } from "./events.js";
import {
  FillRequestSchema,
  GenerateRequestSchema,
  type GenerationEvent,
  ImageService,
} from "./gen/darkroom/v1/image_service_pb.js";
import { type Model, ModelService } from "./gen/darkroom/v1/model_service_pb.js";
import { wait, waitBeforeNextMs } from "./retry.js";
import { errorOf } from "./status.js";

type Fields<Init> = Omit<Init, "$typeName" | "$unknown" | "image" | "mask">;

/** The fields of the message; `image` is the bytes of an encoded file to begin with. */
export type GenerateRequest = Fields<MessageInitShape<typeof GenerateRequestSchema>> & { image?: Uint8Array };

/** The fields of the message; `image` and `mask` are the bytes of encoded files. */
export type FillRequest = Fields<MessageInitShape<typeof FillRequestSchema>> & { image: Uint8Array; mask?: Uint8Array };

export interface ClientOptions {
  /** Sent with every call, as `authorization: Bearer KEY`. */
  apiKey?: string;
  /** For calls that give none; covers all tries of a call. */
  timeoutMs?: number;
  /** Counts the first try; 1 turns retrying off. */
  maxAttempts?: number;
  /** Options of Node's TLS and HTTP/2, for https addresses. */
  nodeOptions?: GrpcTransportOptions["nodeOptions"];
}

export interface CallSettings {
  /** Aborting it cancels the call, and the service stops working on it. */
  signal?: AbortSignal;
  timeoutMs?: number;
  /** Under which the service logs the call; made up when there is none. */
  requestId?: string;
}

/** A connection to one server, by its URL. Does not connect before the first call. */
export class Client {
  readonly #sessions: Http2SessionManager;
  readonly #images: Stub<typeof ImageService>;
  readonly #models: Stub<typeof ModelService>;

  constructor(
    readonly url: string = "http://127.0.0.1:8001",
    readonly options: ClientOptions = {},
  ) {
    this.#sessions = new Http2SessionManager(url, {}, options.nodeOptions);
    const transport = createGrpcTransport({ baseUrl: url, sessionManager: this.#sessions });
    this.#images = createClient(ImageService, transport);
    this.#models = createClient(ModelService, transport);
  }

  /** Cancels the calls that still run and closes the connection. */
  close(): void {
    this.#sessions.abort();
  }

  /** The events of one Generate; leaving the loop over them cancels it. */
  generate(request: GenerateRequest, settings: CallSettings = {}): AsyncGenerator<Event, void, undefined> {
    const { image, ...fields } = request;
    const message = create(GenerateRequestSchema, { ...fields, ...(image && { image: source(image) }) });
    return this.#stream((options) => this.#images.generate(message, options), settings);
  }

  /** The events of one Fill: the image with its masked (white) part repainted. */
  fill(request: FillRequest, settings: CallSettings = {}): AsyncGenerator<Event, void, undefined> {
    const { image, mask, ...fields } = request;
    const message = create(FillRequestSchema, { ...fields, image: source(image), ...(mask && { mask: source(mask) }) });
    return this.#stream((options) => this.#images.fill(message, options), settings);
  }

  /** Every model of the server, loaded or not, by name. */
  async listModels(settings: CallSettings = {}): Promise<Model[]> {
    const models: Model[] = [];
    let pageToken = "";
    do {
      const page = await this.#unary((options) => this.#models.listModels({ pageToken }, options), settings);
      models.push(...page.models);
      pageToken = page.nextPageToken;
    } while (pageToken);
    return models;
  }

  /** One model by resource name, hub id or alias. */
  async getModel(name: string, settings: CallSettings = {}): Promise<Model> {
    const { model } = await this.#unary((options) => this.#models.getModel({ name }, options), settings);
    if (model === undefined) throw new CorruptImage("the answer has no model");
    return model;
  }

  async *#stream(
    method: (options: CallOptions) => AsyncIterable<{ event?: GenerationEvent | undefined }>,
    settings: CallSettings,
  ): AsyncGenerator<Event, void, undefined> {
    const call = new Call(this, settings);
    try {
      for (let attempt = 1; ; attempt++) {
        const assembler = new EventAssembler(call.requestId);
        let begun = false;
        try {
          for await (const { event } of method(call.options())) {
            begun = true;
            const told = event && assembler.feed(event);
            if (told) yield told;
          }
          assembler.finish();
          return;
        } catch (error) {
          await call.throwUnlessTriedAgain(error, begun ? Infinity : attempt);
        }
      }
    } finally {
      call.abort();
    }
  }

  async #unary<Response>(method: (options: CallOptions) => Promise<Response>, settings: CallSettings): Promise<Response> {
    const call = new Call(this, settings);
    for (let attempt = 1; ; attempt++) {
      try {
        return await method(call.options());
      } catch (error) {
        await call.throwUnlessTriedAgain(error, attempt);
      }
    }
  }
}

/** One call, with all its tries. */
class Call {
  readonly requestId: string;
  readonly #left = new AbortController();
  readonly #signal: AbortSignal;
  readonly #endsAtMs: number | undefined;

  constructor(
    readonly client: Client,
    readonly settings: CallSettings,
  ) {
    this.requestId = settings.requestId || randomUUID().replaceAll("-", "");
    this.#signal = settings.signal ? AbortSignal.any([settings.signal, this.#left.signal]) : this.#left.signal;
    const timeoutMs = settings.timeoutMs ?? client.options.timeoutMs;
    this.#endsAtMs = timeoutMs === undefined ? undefined : performance.now() + timeoutMs;
  }

  /** Options of the next try, with the time that is left. */
  options(): CallOptions {
    const headers: Record<string, string> = { "x-request-id": this.requestId };
    if (this.client.options.apiKey !== undefined) headers.authorization = `Bearer ${this.client.options.apiKey}`;
    const left = this.#leftMs();
    return { headers, signal: this.#signal, ...(left !== undefined && { timeoutMs: Math.max(1, Math.ceil(left)) }) };
  }

  /** Stops what still runs. */
  abort(): void {
    this.#left.abort();
  }

  /** Waits if there is to be another try after `attempt` of them; otherwise throws what the error means. */
  async throwUnlessTriedAgain(error: unknown, attempt: number): Promise<void> {
    if (!(error instanceof ConnectError)) throw error;
    const waitMs = waitBeforeNextMs(error, attempt, this.client.options.maxAttempts ?? 4);
    if (waitMs === undefined) throw this.#errorOf(error);
    const left = this.#leftMs();
    if (left !== undefined && left <= waitMs) {
      throw this.#errorOf(new ConnectError("no time is left for another try", Code.DeadlineExceeded, undefined, undefined, error));
    }
    await wait(waitMs, this.#signal);
  }

  #errorOf(error: ConnectError): DarkroomError {
    const { signal } = this.settings;
    if (signal?.aborted && error.code === Code.Canceled) {
      return new Cancelled("the call was aborted", { requestId: this.requestId, cause: signal.reason });
    }
    return errorOf(error, this.client.url, this.requestId);
  }

  #leftMs(): number | undefined {
    return this.#endsAtMs && this.#endsAtMs - performance.now();
  }
}

/** The result of a whole stream of events. Throws CorruptImage when a needed one is missing. */
export async function collect(events: AsyncIterable<Event>): Promise<Generation> {
  const images: GeneratedImage[] = [];
  let accepted: Generation["accepted"] | undefined;
  let completed: Generation["completed"] | undefined;
  for await (const event of events) {
    if (event.kind === "accepted") accepted = event;
    else if (event.kind === "image") images.push(event.image);
    else if (event.kind === "completed") completed = event;
  }
  if (!accepted || !completed) throw new CorruptImage("the stream has no beginning or no end");
  return { images: images.sort((a, b) => a.imageIndex - b.imageIndex), accepted, completed };
}

function source(content: Uint8Array) {
  return { source: { case: "content" as const, value: content } };
}
