/** Runs the cases of clients/conformance and reports: node dist/conformance.js HOST:PORT CASES OUT_FOLDER */

import { readFile, writeFile } from "node:fs/promises";
import { fromJson, type JsonValue } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { Cancelled, Client, DarkroomError, type Event, InvalidRequest, RetryableError } from "./index.js";
import { FillRequestSchema, GenerateRequestSchema } from "./gen/darkroom/v1/image_service_pb.js";

interface Case {
  name: string;
  method: "Generate" | "Fill" | "ListModels" | "GetModel";
  request: JsonValue;
  timeout_s?: number;
  cancel_after?: string;
  server?: string;
}

interface Report {
  case: string;
  events: string[];
  warnings: string[];
  images: object[];
  models: string[];
  cancelled: boolean;
  error?: object;
}

/** A port that nothing listens on. */
const NOBODY = "127.0.0.1:1";

const [address, casesFile, folder] = process.argv.slice(2);
if (!address || !casesFile || !folder) throw new Error("arguments: HOST:PORT CASES OUT_FOLDER");
const { cases } = JSON.parse(await readFile(casesFile, "utf8")) as { cases: Case[] };
for (const [index, each] of cases.entries()) {
  const client = new Client(`http://${each.server === "none" ? NOBODY : address}`);
  console.log(JSON.stringify(await run(client, each, `${folder}/${index}`)));
  client.close();
}

async function run(client: Client, each: Case, stem: string): Promise<Report> {
  const report: Report = { case: each.name, events: [], warnings: [], images: [], models: [], cancelled: false };
  const controller = new AbortController();
  try {
    switch (each.method) {
      case "ListModels":
        report.models = (await client.listModels()).map((model) => model.name);
        break;
      case "GetModel":
        report.models = [(await client.getModel((each.request as { name: string }).name)).name];
        break;
      default:
        for await (const event of stream(client, each, controller.signal)) {
          await note(report, event, stem);
          if (event.kind === each.cancel_after) controller.abort();
        }
    }
  } catch (thrown) {
    if (thrown instanceof Cancelled && controller.signal.aborted) report.cancelled = true;
    else if (thrown instanceof DarkroomError) report.error = described(thrown);
    else throw thrown;
  }
  return report;
}

async function note(report: Report, event: Event, stem: string): Promise<void> {
  report.events.push(event.kind);
  if (event.kind === "accepted") report.warnings = event.warnings.map((warning) => `${warning.reason} ${warning.field}`);
  if (event.kind === "image") {
    const { imageIndex, seed, widthPx, heightPx, mediaType, content } = event.image;
    await writeFile(`${stem}-${imageIndex}`, content);
    report.images.push({
      image_index: imageIndex,
      seed: String(seed),
      width_px: widthPx,
      height_px: heightPx,
      media_type: mediaType,
    });
  }
}

function stream(client: Client, each: Case, signal: AbortSignal): AsyncIterable<Event> {
  const settings = { signal, timeoutMs: (each.timeout_s ?? 60) * 1000 };
  if (each.method === "Fill") {
    const { $typeName: _, image, mask, ...fields } = fromJson(FillRequestSchema, each.request);
    return client.fill({ ...fields, ...(mask && { mask: bytes(mask) }), image: bytes(image) }, settings);
  }
  const { $typeName: _, image, ...fields } = fromJson(GenerateRequestSchema, each.request);
  return client.generate({ ...fields, ...(image && { image: bytes(image) }) }, settings);
}

function bytes(image: { source: { value?: Uint8Array | undefined } } | undefined): Uint8Array {
  return image?.source.value ?? new Uint8Array();
}

function described(error: DarkroomError): object {
  return {
    kind: error.name,
    code: error.cause instanceof ConnectError ? codeName(error.cause.code) : "",
    reason: error.reason,
    fields: error instanceof InvalidRequest ? error.violations.map((each) => each.field) : [],
    has_retry_delay: error instanceof RetryableError && error.retryAfterMs !== undefined,
  };
}

/** As gRPC writes it: InvalidArgument is INVALID_ARGUMENT. */
function codeName(code: Code): string {
  return Code[code].replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
}
