// npm install @huggingface/inference
import { writeFile } from "node:fs/promises";

import { InferenceClient } from "@huggingface/inference";

const client = new InferenceClient("YOUR_KEY", {
  endpointUrl: "http://127.0.0.1:8000/models/black-forest-labs/FLUX.1-dev",
});

const image = await client.textToImage({
  inputs: "Astronaut riding a horse",
  parameters: { num_inference_steps: 5 },
});
await writeFile("astronaut.png", image.stream());
