// Run by the tests with node: ADDRESS MODEL SLOW_MODEL, beside a folder of node's packages.
import assert from "node:assert/strict";

import { createFal } from "@ai-sdk/fal";
import { createFalClient } from "@fal-ai/client";
import { InferenceClient } from "@huggingface/inference";
import { generateImage } from "ai";

const [address, model, slow] = process.argv.slice(2);
const small = { image_size: { width: 64, height: 64 }, num_inference_steps: 3, seed: 5 };
const jpeg = async (url) => {
  assert(url.startsWith(`${address}/files/`), url);
  const bytes = new Uint8Array(await (await fetch(url)).arrayBuffer());
  assert.deepEqual([...bytes.subarray(0, 3)], [0xff, 0xd8, 0xff]);
};
// The clients' addresses of fal are fixed.
const here = (url) =>
  String(url)
    .replace(/^https:\/\/queue\.fal\.run\//, `${address}/queue/`)
    .replace(/^https:\/\/(fal\.run|router\.huggingface\.co)\//, `${address}/`);

const requestMiddleware = async (request) => ({ ...request, url: here(request.url) });
const fal = createFalClient({ credentials: "key:secret", requestMiddleware });
const input = { prompt: "a cat", ...small };
const made = await fal.run(model, { input });
assert.equal(made.data.seed, 5);
await jpeg(made.data.images[0].url);
for (const mode of ["polling", "streaming"]) {
  const seen = [];
  const done = await fal.subscribe(slow, {
    input: { ...input, num_inference_steps: 30 },
    mode,
    pollInterval: 100,
    onQueueUpdate: (update) => seen.push(update.status),
  });
  await jpeg(done.data.images[0].url);
  assert.equal(seen.at(-1), "COMPLETED");
}
const { request_id: requestId } = await fal.queue.submit(slow, {
  input: { prompt: "x", num_inference_steps: 100 },
});
await fal.queue.cancel(slow, { requestId });
assert.equal((await fal.queue.status(slow, { requestId })).status, "COMPLETED");
await assert.rejects(fal.queue.result(slow, { requestId }), /cancelled/);
const stream = await fal.stream(model, { input });
await jpeg((await stream.done()).images[0].url);
await assert.rejects(fal.run(model, { input: { prompt: "x", image_size: "huge" } }), /image_size/);
await assert.rejects(fal.run("fal-ai/nobody", { input }), { status: 404 });

const image = createFal({ apiKey: "key", baseURL: address }).image(model);
const drawn = await generateImage({ model: image, prompt: "a cat", size: "64x64", seed: 5 });
assert.equal(drawn.image.mediaType, "image/jpeg");
await assert.rejects(
  generateImage({ model: image, prompt: "x", size: "0x0", maxRetries: 0 }),
  /width/,
);

const own = globalThis.fetch;
globalThis.fetch = async (url, options) => {
  if (!String(url).startsWith("https://huggingface.co/api/models/")) return own(here(url), options);
  const mapping = { status: "live", providerId: "fal-ai/hidream-i1-full", task: "text-to-image" };
  return Response.json({ id: "x", inferenceProviderMapping: { "fal-ai": mapping } });
};
// What it waits by does not keep node from ending.
const awake = setInterval(() => {}, 1000);
for (const key of ["key:secret", "hf_1"]) {
  const blob = await new InferenceClient(key).textToImage({
    provider: "fal-ai",
    model: "HiDream-ai/HiDream-I1-Full",
    inputs: "a cat",
    parameters: { num_inference_steps: 3, seed: 5 },
  });
  assert.equal(blob.type, "image/jpeg");
}
clearInterval(awake);
