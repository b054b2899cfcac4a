// The page: ties the form, the mask, the server's events and the gallery together.

import { describeServer, listModels, run } from "./api.js";
import { showChoices } from "./choices.js";
import { byId, request, showFields, TASKS } from "./form.js";
import { addImage } from "./gallery.js";
import { connectKey, showStanding } from "./key.js";
import { Mask } from "./mask.js";
import { copy, LANGUAGES, snippet } from "./snippets.js";

const STAGES = { STAGE_ENCODE: "reading the prompt", STAGE_DENOISE: "denoising" };
const PREVIEW_COUNT = 5;
const COPIED_MS = 1500;
// By then the server has noticed that a cancelled request is over, and given back what it did not use.
const SETTLED_MS = 400;

let server = {};
let models = [];
let task = "TASK_TEXT_TO_IMAGE";
let image = null;
let lastSeed = null;
let running = null;
let language = "cURL";

const mask = new Mask(byId("mask"), byId("brush"), byId("brush-ring"), showSnippet);
const model = () => models.find((each) => each.name === byId("model").value);

function currentRequest() {
  const takesImage = task !== "TASK_TEXT_TO_IMAGE" && image;
  return request(model(), {
    image: takesImage ? image.base64 : null,
    mask: task === "TASK_FILL" && image ? mask.base64() : null,
  });
}

function showSnippet() {
  if (!byId("snippets").open || !model()) return;
  byId("snippet").textContent = snippet(language, TASKS[task], currentRequest(), server);
}

function showTasks() {
  const known = model().tasks.filter((each) => each in TASKS);
  if (!known.includes(task)) task = known[0];
  showChoices(byId("tasks"), known.map((each) => [each, TASKS[each].label]), task, chooseTask);
  showFields(model(), task);
  showSnippet();
}

function chooseTask(chosen) {
  task = chosen;
  showFields(model(), task);
  showSnippet();
}

function showLanguages() {
  showChoices(byId("languages"), Object.keys(LANGUAGES).map((name) => [name, name]), language, (name) => {
    language = name;
    showSnippet();
  });
}

async function takeImage(file) {
  const shown = byId("image-shown");
  const url = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
  shown.src = url;
  try {
    await shown.decode();
  } catch {
    return showError({ message: "This file is no image that the browser can show.", field: "image" });
  }
  image = { base64: url.split(",")[1] };
  byId("canvas-box").hidden = false;
  mask.reset(shown.naturalWidth, shown.naturalHeight);
}

function useAsInput(file) {
  const known = model().tasks;
  if (task === "TASK_TEXT_TO_IMAGE") {
    const next = ["TASK_FILL", "TASK_IMAGE_TO_IMAGE"].find((each) => known.includes(each));
    if (!next) return showError({ message: "This model takes no image; choose another." });
    task = next;
    showTasks();
  }
  byId("image-file").value = "";
  takeImage(file);
  byId("source").scrollIntoView({ block: "nearest" });
}

function setSeed(seed) {
  byId("seed").value = seed;
  showSnippet();
}

async function takeMask(file) {
  try {
    await mask.load(file);
  } catch {
    showError({ message: "This file is no image that the browser can show.", field: "mask" });
  }
}

/** When trying again may help, or what would. */
function again({ reason, retryAfter_s }) {
  if (reason === "INSUFFICIENT_CREDITS") return " Fewer steps, pixels or images take fewer credits.";
  if (!retryAfter_s) return "";
  const minutes = Math.ceil(retryAfter_s / 60);
  if (retryAfter_s < 90) return ` Try again in ${retryAfter_s} s.`;
  return minutes < 90 ? ` Try again in ${minutes} minutes.` : ` Try again in ${Math.ceil(minutes / 60)} hours.`;
}

/** What went wrong, in words, and the field that is at fault. */
function showError(error) {
  const field = error.field ? `${error.field.replace(/\.content$/, "").replaceAll("_", " ").replace(" px", "")}: ` : "";
  byId("error").textContent = field + error.message + again(error);
  byId("error").hidden = false;
  byId("error").scrollIntoView({ block: "nearest" });
  const name = error.field?.split(".")[0];
  const input = name && byId(name === "image" ? "image-file" : name);
  input?.setAttribute("aria-invalid", "true");
  input?.focus();
}

function clearMessages() {
  byId("error").hidden = byId("notices").hidden = true;
  for (const input of document.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
}

/** Tells those who hear the page rather than see it. */
function announce(text) {
  if (byId("announcement").textContent !== text) byId("announcement").textContent = text;
}

function showProgress(text, done, total) {
  byId("stage").textContent = text;
  // Not every step of it: only what is done changes.
  announce(text.split(",")[0]);
  if (total) Object.assign(byId("progress"), { max: total, value: done });
  else byId("progress").removeAttribute("value");
}

function problem(made) {
  // What surrounds the mask, or the image itself, is something to go by.
  if (!made.prompt && task === "TASK_TEXT_TO_IMAGE") return { field: "prompt", message: "the prompt is empty; say what to draw" };
  if (task !== "TASK_TEXT_TO_IMAGE" && !image) return { field: "image", message: "choose one first" };
  if (task === "TASK_FILL" && mask.isEmpty()) return { field: "mask", message: "draw over what should be repainted" };
  return null;
}

async function start() {
  if (running || !model()) return;
  clearMessages();
  const made = currentRequest();
  const wrong = problem(made);
  if (wrong) return showError(wrong);
  const sent = model().parameters.some((spec) => spec.field === "preview" && spec.effective)
    ? { ...made, preview: { intervalStepCount: Math.ceil((made.stepCount ?? 20) / PREVIEW_COUNT) } }
    : made;
  running = new AbortController();
  setRunning(true);
  byId("running").style.setProperty("--ratio", made.widthPx && made.heightPx ? made.widthPx / made.heightPx : 1);
  byId("results").scrollIntoView({ block: "nearest" });
  const listener = listen(made.prompt);
  try {
    await run(TASKS[task].method, sent, running.signal, listener);
  } catch (error) {
    announce("");
    if (error.name === "AbortError") showNotice("Cancelled.");
    else showFailure(error);
  } finally {
    running = null;
    setRunning(false);
  }
  setTimeout(() => showStanding(server.needsKey).catch(() => {}), SETTLED_MS);
}

function showFailure(error) {
  showError(error instanceof TypeError ? { message: "The server cannot be reached." } : error);
}

function setRunning(isRunning) {
  byId("run").disabled = isRunning;
  byId("cancel").hidden = byId("running").hidden = !isRunning;
  byId("preview").hidden = true;
  if (isRunning) showProgress("sending");
}

function showNotice(text) {
  byId("notices").textContent = text;
  byId("notices").hidden = false;
}

/** What to do with each event of one generation. */
function listen(prompt) {
  const started_ms = performance.now();
  let parameters = null;
  return (name, event) => {
    if (name === "accepted") {
      parameters = event.accepted.parameters;
      showWarnings(event.accepted);
      showProgress("accepted");
    } else if (name === "queued") {
      const { aheadCount, modelLoading } = event.queued;
      showProgress(modelLoading ? "waiting for the model to load" : aheadCount ? `${aheadCount} ahead in the queue` : "next in the queue");
    } else if (name === "progress") {
      const { stage, completedStepCount, totalStepCount } = event.progress;
      const steps = totalStepCount ? `, step ${completedStepCount} of ${totalStepCount}` : "";
      showProgress((STAGES[stage] ?? "working") + steps, completedStepCount, totalStepCount);
    } else if (name === "preview") {
      byId("preview").src = `data:${event.preview.mediaType};base64,${event.preview.content}`;
      byId("preview").hidden = false;
    } else if (name === "image") {
      lastSeed = event.image.seed;
      byId("reuse").disabled = false;
      const duration_s = (performance.now() - started_ms) / 1000;
      announce(`Image ready, seed ${lastSeed}`);
      addImage({ image: event.image, parameters, prompt, duration_s, use: useAsInput, reuse: setSeed });
    } else if (name === "completed") {
      showWarnings(event.completed);
    }
  };
}

function showWarnings({ warnings = [] }) {
  if (warnings.length) showNotice(warnings.map((each) => each.description).join(" "));
}

function connect() {
  byId("form").addEventListener("submit", (event) => { event.preventDefault(); start(); });
  byId("form").addEventListener("input", showSnippet);
  byId("prompt").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      byId("form").requestSubmit();
    }
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") running?.abort(); });
  byId("cancel").addEventListener("click", () => running?.abort());
  byId("model").addEventListener("change", showTasks);
  byId("image-file").addEventListener("change", (event) => event.target.files[0] && takeImage(event.target.files[0]));
  byId("mask-file").addEventListener("change", (event) => event.target.files[0] && takeMask(event.target.files[0]));
  connectDrops();
  byId("undo").addEventListener("click", () => mask.undo());
  byId("invert").addEventListener("click", () => mask.invert());
  byId("clear").addEventListener("click", () => mask.clear());
  byId("reuse").addEventListener("click", () => setSeed(lastSeed));
  byId("shuffle").addEventListener("click", () => setSeed(""));
  byId("snippets").addEventListener("toggle", showSnippet);
  byId("copy").addEventListener("click", async (event) => {
    const label = event.target;
    label.textContent = (await copy(byId("snippet"))) ? "Copied" : "Press Ctrl+C";
    setTimeout(() => { label.textContent = "Copy"; }, COPIED_MS);
  });
}

/** Images that are dropped on the image's field, or pasted while it is shown. */
function connectDrops() {
  const source = byId("source");
  const pictureOf = (transfer) => [...transfer.files].find((file) => file.type.startsWith("image/"));
  for (const name of ["dragover", "dragleave", "drop"])
    source.addEventListener(name, (event) => {
      event.preventDefault();
      source.classList.toggle("over", name === "dragover");
      const file = name === "drop" && pictureOf(event.dataTransfer);
      if (file) takeImage(file);
    });
  document.addEventListener("paste", (event) => {
    const file = pictureOf(event.clipboardData);
    if (file && !source.hidden) takeImage(file);
  });
}

/** Shows the server's models, once there is a key where one is needed. */
async function open() {
  clearMessages();
  try {
    server = await describeServer();
    if (!(await showStanding(server.needsKey))) return;
    models = await listModels();
  } catch (error) {
    return showFailure(error);
  }
  if (!models.length) return showError({ message: "This server has no model yet." });
  byId("model").replaceChildren(...models.map((each) => new Option(each.displayName || each.name.replace("models/", ""), each.name)));
  const ready = models.find((each) => each.state === "STATE_READY") ?? models[0];
  byId("model").value = ready.name;
  showTasks();
}

connect();
connectKey(open);
showLanguages();
open();
