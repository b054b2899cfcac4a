import { writeFile } from "node:fs/promises";

const response = await fetch(
  "http://127.0.0.1:8000/hf-inference/models/black-forest-labs/FLUX.1-dev",
  {
    method: "POST",
    headers: { Authorization: "Bearer YOUR_KEY", "Content-Type": "application/json" },
    body: JSON.stringify({ inputs: "Astronaut riding a horse" }),
  },
);
const image = await response.blob();
await writeFile("astronaut.png", image.stream());
