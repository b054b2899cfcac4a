/** Draws one picture: node dist/example.js HOST:PORT PROMPT OUT_FILE */

import { writeFile } from "node:fs/promises";
import { Client, DarkroomError } from "./index.js";

const [address, prompt, file] = process.argv.slice(2);
if (!address || !prompt || !file) throw new Error("arguments: HOST:PORT PROMPT OUT_FILE");
const client = new Client(`http://${address}`);
try {
  for await (const event of client.generate({ prompt, seed: 7n })) {
    if (event.kind === "progress") console.log(`${event.completedStepCount} of ${event.totalStepCount} steps`);
    if (event.kind === "image") await writeFile(file, event.image.content);
  }
} catch (error) {
  if (!(error instanceof DarkroomError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
} finally {
  client.close();
}
