// Run by the tests with node: ADDRESS MODEL FILE FILE FILE, beside a folder of node's packages.
// Prints what each client made of the three images, and the seed that the server chose for it.
import { readFileSync } from "node:fs";

import { createOpenAI } from "@ai-sdk/openai";
import { generateImage } from "ai";
import OpenAI, { toFile } from "openai";

const [address, model, ...files] = process.argv.slice(2);
const images = files.map((file) => readFileSync(file));
const text = "put them together";
const SEED = "x-darkroom-seed";

const openai = new OpenAI({ baseURL: `${address}/v1`, apiKey: "x", maxRetries: 0 });
const image = await Promise.all(images.map((one, at) => toFile(one, `${at}.png`, { type: "image/png" })));
const edited = await openai.images.edit({ model, prompt: text, image, size: "64x64" }).withResponse();

const provider = createOpenAI({ baseURL: `${address}/v1`, apiKey: "x" });
const made = await generateImage({ model: provider.image(model), prompt: { text, images }, size: "64x64", maxRetries: 0 });

process.stdout.write(
  JSON.stringify({
    openai: [edited.data.data[0].b64_json, edited.response.headers.get(SEED)],
    ai: [made.image.base64, made.responses[0].headers[SEED]],
  }),
);
