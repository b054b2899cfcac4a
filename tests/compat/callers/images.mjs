// Run by the tests with node: ADDRESS MODEL FILL_MODEL, beside a folder of node's packages.
import assert from "node:assert/strict";

import { InferenceClient } from "@huggingface/inference";
import OpenAI, { toFile } from "openai";

const [address, model, fill] = process.argv.slice(2);
// 16 by 16 pixels, all transparent.
const png = Buffer.from(
  "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAYAAAAf8/9hAAAAHElEQVR4nGOMiopioAQwUaR71IBRA0YNGEQGAACMEAEuKQ2higAAAABJRU5ErkJggg==",
  "base64",
);

const openai = new OpenAI({ baseURL: `${address}/v1`, apiKey: "x", maxRetries: 0 });
const made = await openai.images.generate({ model, prompt: "x", size: "64x64" });
assert.equal(Buffer.from(made.data[0].b64_json, "base64").subarray(1, 4).toString(), "PNG");
const image = await toFile(png, "in.png", { type: "image/png" });
const edited = await openai.images.edit({ model: fill, prompt: "x", image, size: "64x64" });
assert.equal(edited.size, "64x64");
const types = [];
const stream = await openai.images.generate({ model, prompt: "x", stream: true, partial_images: 1 });
for await (const event of stream) types.push(event.type);
assert.equal(types.at(-1), "image_generation.completed");
await assert.rejects(openai.images.generate({ model: "nobody", prompt: "x" }), OpenAI.NotFoundError);

const endpointUrl = `${address}/models/${model}`;
const client = new InferenceClient("x", { endpointUrl });
const parameters = { width: 64, height: 64, num_inference_steps: 3, seed: 5 };
const blob = await client.textToImage({ inputs: "x", parameters });
assert.equal(blob.type, "image/png");
await assert.rejects(client.textToImage({ inputs: "x", parameters: { width: 0 } }), /width/);
