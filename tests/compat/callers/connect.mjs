// connect-web as in a page, and connect-node, against the server: both protocols, in binary and JSON.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

import { createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import * as node from "@connectrpc/connect-node";
import * as web from "@connectrpc/connect-web";

const [url, descriptors] = process.argv.slice(2);
const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(descriptors)));
const ImageService = registry.getService("darkroom.v1.ImageService");
const ModelService = registry.getService("darkroom.v1.ModelService");
const BadRequest = registry.getMessage("google.rpc.BadRequest");
const small = { model: "sdxl", prompt: "x", seed: 7n, stepCount: 3, widthPx: 64, heightPx: 64 };

async function generated(images) {
  const chunks = [];
  for await (const { event } of images.generate(small)) {
    if (event.event.case === "chunk") chunks.push(event.event.value.content);
  }
  return Buffer.concat(chunks).toString("base64");
}

async function tryOut(transport) {
  const images = createClient(ImageService, transport);
  const models = createClient(ModelService, transport);

  const listed = await models.listModels({});
  assert(listed.models.some((model) => model.name === "models/sdxl"));

  const failure = await (async () => {
    for await (const _ of images.generate({ ...small, stepCount: 0 })) assert.fail("an event");
  })().catch((error) => error);
  assert(failure instanceof ConnectError);
  assert.equal(failure.code, Code.InvalidArgument, failure.message);
  assert.equal(failure.findDetails(BadRequest)[0].fieldViolations[0].field, "step_count");

  const leaving = new AbortController();
  const left = await (async () => {
    const request = { ...small, model: "slow", stepCount: 150 };
    for await (const { event } of images.generate(request, { signal: leaving.signal })) {
      if (event.event.case === "progress") leaving.abort();
    }
  })().catch((error) => error);
  assert.equal(ConnectError.from(left).code, Code.Canceled);

  return generated(images);
}

const pictures = new Set();
for (const useBinaryFormat of [true, false]) {
  pictures.add(await tryOut(web.createConnectTransport({ baseUrl: url, useBinaryFormat })));
  pictures.add(await tryOut(web.createGrpcWebTransport({ baseUrl: url, useBinaryFormat })));
  const options = { baseUrl: url, useBinaryFormat, httpVersion: "1.1" };
  pictures.add(await tryOut(node.createConnectTransport(options)));
  pictures.add(await tryOut(node.createGrpcWebTransport(options)));
}
// All eight ways give the same picture.
assert.equal(pictures.size, 1);
assert([...pictures][0].length > 100);
