// The page: ties the form, the mask, the requests and their results together.

import { Adapters } from "./adapters.js";
import { describeServer, listModels } from "./api.js";
import { showChoices } from "./choices.js";
import { element } from "./elements.js";
import { clearNotes, connectNotes, sayProblem, sayWarning } from "./field_notes.js";
import { byId, examplesOf, referencesOf, request, showFields, takesImage, TASKS } from "./form.js";
import { connectKey, showStanding } from "./key.js";
import { Mask } from "./mask.js";
import { readPicture, References } from "./references.js";
import { addResult, connectResults, forgetResults, keepResults, resultOf } from "./results.js";
import { cancelAll, MAX_RUN_COUNT, Run, runCount } from "./runs.js";
import { copy, LANGUAGES, snippet } from "./snippets.js";
import { connectViewer } from "./viewer.js";

const TEXT_TO_IMAGE = "TASK_TEXT_TO_IMAGE";
const PREVIEW_COUNT = 5;
const COPIED_MS = 1500;
const LOADING_LOOK_MS = 2000;
// By then the server has noticed that a cancelled request is over, and given back what it did not use.
const SETTLED_MS = 400;

let server = {};
let models = [];
let task = TEXT_TO_IMAGE;
let image = null;
let lastSeed = null;
let language = "cURL";
let suggested = "";

const mask = new Mask(byId("mask"), byId("brush"), byId("brush-ring"), () => { clearNotes("mask"); showSnippet(); });
const references = new References(byId("reference-list"), (text) => {
  byId("references-said").textContent = text;
  clearNotes("reference_images");
  showSnippet();
});
const adapters = new Adapters({ list: byId("adapter-list"), choice: byId("adapter-choice"), button: byId("adapter-add"), hint: byId("adapters-hint") }, (text) => {
  byId("adapters-said").textContent = text;
  clearNotes("adapters");
  showSnippet();
}, addWords);
const model = () => models.find((each) => each.name === byId("model").value);

function currentRequest() {
  return request(model(), {
    adapters: adapters.values(),
    references: referencesOf(model(), task).most ? references.base64() : [],
    image: takesImage(task) && image ? image.base64 : null,
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
  adapters.offer(model().adapters ?? []);
  showChoices(byId("tasks"), known.map((each) => [each, TASKS[each].label]), task, chooseTask);
  showExamples();
  chooseTask(task);
}

function showReferences() {
  const { most, isNeeded } = referencesOf(model(), task);
  if (!most) return;
  const isEdit = task === "TASK_EDIT";
  references.offer(isEdit ? "edit" : "beside", most);
  byId("reference-files").multiple = most > 1;
  byId("references-title").textContent = isEdit ? "Reference images" : "Beside the image";
  byId("references-ask").textContent = most > 1 ? "Choose images, drop some here, or paste them" : "Choose an image, drop one here, or paste it";
  const beside = isNeeded ? "This model needs a second image: a control image, such as edges, depths or a pose." : "Not needed: an image of what is to be painted there.";
  const ofEdit = most > 1 ? `At most ${most}. The prompt can refer to them in this order: "the cat of image 1 in the room of image 2".` : "This model takes one image.";
  byId("references-hint").textContent = isEdit ? ofEdit : beside;
}

function chooseTask(chosen) {
  task = chosen;
  clearNotes();
  showReferences();
  showFields(model(), task);
  showSnippet();
}

/** Prompts of the model to begin with; the first stands in the field, so that Enter makes a picture. */
function showExamples() {
  const examples = examplesOf(model());
  byId("examples").replaceChildren(...examples.map((text) => element("button", { type: "button", className: "chip", textContent: text, onclick: () => suggest(text) })));
  byId("examples").hidden = !examples.length;
  if (byId("prompt").value === suggested) suggest(examples[0] ?? "");
}

function suggest(text) {
  suggested = byId("prompt").value = text;
  clearNotes("prompt");
  byId("prompt").focus();
  byId("prompt").select();
  showSnippet();
}

/** Puts words at the end of the prompt, once. */
function addWords(words) {
  const prompt = byId("prompt").value.trim();
  if (prompt.toLowerCase().includes(words.toLowerCase())) return;
  byId("prompt").value = prompt ? `${prompt}, ${words}` : words;
  clearNotes("prompt");
  showSnippet();
}

function showLanguages() {
  showChoices(byId("languages"), Object.keys(LANGUAGES).map((name) => [name, name]), language, (name) => {
    language = name;
    showSnippet();
  });
}

async function takeImage(file) {
  clearNotes("image");
  try {
    image = await readPicture(file);
  } catch {
    return showError({ message: "This file is no image that the browser can show.", field: "image" });
  }
  byId("image-shown").src = image.url;
  byId("canvas-box").hidden = false;
  mask.reset(image.width, image.height);
}

async function takeReferences(files) {
  const said = await references.add(files);
  byId("reference-files").value = "";
  if (said) showError({ message: said, field: "reference_images" });
}

function useAsInput(file) {
  const known = model().tasks;
  if (task === TEXT_TO_IMAGE) {
    const next = ["TASK_EDIT", "TASK_FILL", "TASK_IMAGE_TO_IMAGE"].find((each) => known.includes(each));
    if (!next) return showError({ message: "This model takes no image; choose another." });
    task = next;
    showTasks();
  }
  if (task === "TASK_EDIT") {
    takeReferences([file]);
    byId("references").scrollIntoView({ block: "nearest" });
    return;
  }
  byId("image-file").value = "";
  takeImage(file);
  byId("source").scrollIntoView({ block: "nearest" });
}

function setSeed(seed) {
  byId("seed").value = seed;
  clearNotes("seed");
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

/** What went wrong, in words: at the field at fault, or above the results where none is. */
function showError(error) {
  const field = error.field?.replace(/\.content$/, "");
  const place = field?.match(/\[(\d+)\]$/);
  const text = (place ? `Image ${Number(place[1]) + 1}: ` : "") + error.message + again(error);
  if (field && sayProblem(field, text)) return;
  byId("error").textContent = (field ? `${field.replaceAll("_", " ").replace(" px", "")}: ` : "") + text;
  byId("error").hidden = false;
  byId("error").scrollIntoView({ block: "nearest" });
}

function showWarnings({ warnings = [] }) {
  const elsewhere = warnings.filter(({ field, description }) => !sayWarning(field?.replace(/\.content$/, ""), description));
  if (elsewhere.length) showNotice(elsewhere.map((each) => each.description).join(" "));
}

function showNotice(text) {
  byId("notices").textContent = text;
  byId("notices").hidden = false;
}

function clearMessages() {
  byId("error").hidden = byId("notices").hidden = true;
  clearNotes();
}

function problem(made) {
  // What surrounds the mask, or the image itself, is a guide.
  if (!made.prompt && task === TEXT_TO_IMAGE) return { field: "prompt", message: "Say what to draw." };
  if (takesImage(task) && !image) return { field: "image", message: "Choose an image first." };
  if (referencesOf(model(), task).isNeeded && !references.images.length)
    return { field: "reference_images", message: task === "TASK_EDIT" ? "Choose an image first." : "Choose the image that goes beside it." };
  if (task === "TASK_FILL" && mask.isEmpty()) return { field: "mask", message: "Draw over what should be repainted: the mask is empty." };
  return null;
}

async function start() {
  if (!model() || runCount() >= MAX_RUN_COUNT) return;
  clearMessages();
  const made = currentRequest();
  const wrong = problem(made);
  if (wrong) return showError(wrong);
  const sent = model().parameters.some((spec) => spec.field === "preview" && spec.effective)
    ? { ...made, preview: { intervalStepCount: Math.ceil((made.stepCount ?? 20) / PREVIEW_COUNT) } }
    : made;
  const results = [];
  const run = new Run(TASKS[task], sent, listener(made.prompt, results));
  const ended = run.make();
  showRunning();
  try {
    await ended;
  } catch (error) {
    if (error.name === "AbortError") showNotice("Cancelled.");
    else showFailure(error);
  } finally {
    showRunning();
    keepResults(results);
  }
  setTimeout(() => showStanding(server.needsKey).catch(() => {}), SETTLED_MS);
}

function showFailure(error) {
  showError(error instanceof TypeError ? { message: "The server cannot be reached." } : error);
}

function showRunning() {
  byId("run").disabled = runCount() >= MAX_RUN_COUNT;
  byId("cancel").hidden = !runCount();
}

/** What the page does with each event of one generation. */
function listener(prompt, results) {
  const started_ms = performance.now();
  let parameters = null;
  let unknown = [];
  return (name, event) => {
    if (name === "accepted") {
      parameters = event.accepted.parameters;
      unknown = (event.accepted.warnings ?? []).filter((each) => each.reason === "PROMPT_WORDS_UNKNOWN").flatMap((each) => each.words ?? []);
      showWarnings(event.accepted);
    } else if (name === "image") {
      lastSeed = event.image.seed;
      byId("reuse").disabled = false;
      const duration_s = (performance.now() - started_ms) / 1000;
      results.push(resultOf({ image: event.image, parameters, prompt, duration_s, unknown }));
      addResult(results.at(-1));
    } else if (name === "completed" || name === "done") {
      showWarnings(event.completed ?? {});
    }
  };
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
  document.addEventListener("keydown", (event) => { if (event.key === "Escape" && !byId("viewer").open) cancelAll(); });
  byId("cancel").addEventListener("click", cancelAll);
  byId("model").addEventListener("change", showTasks);
  byId("image-file").addEventListener("change", (event) => event.target.files[0] && takeImage(event.target.files[0]));
  byId("reference-files").addEventListener("change", (event) => event.target.files.length && takeReferences(event.target.files));
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

/** Images that are dropped on a field of images, or pasted while it is shown. */
function connectDrops() {
  const picturesOf = (transfer) => [...transfer.files].filter((file) => file.type.startsWith("image/"));
  const fields = [
    { field: byId("source"), take: ([file]) => takeImage(file), isEmpty: () => !image },
    { field: byId("references"), take: takeReferences, isEmpty: () => !references.images.length },
  ];
  for (const { field, take } of fields)
    for (const name of ["dragover", "dragleave", "drop"])
      field.addEventListener(name, (event) => {
        event.preventDefault();
        field.classList.toggle("over", name === "dragover");
        const files = name === "drop" ? picturesOf(event.dataTransfer) : [];
        if (files.length) take(files);
      });
  document.addEventListener("paste", (event) => {
    const files = picturesOf(event.clipboardData);
    const shown = fields.filter(({ field }) => !field.hidden);
    // Of two, the one that is being looked at, or that still has none.
    const one = shown.find(({ field }) => field.contains(document.activeElement)) ?? shown.find(({ isEmpty }) => isEmpty()) ?? shown[0];
    if (files.length) one?.take(files);
  });
}

/** The model to begin with: of those that make images of words the server's default, else one that is ready. */
function firstModel() {
  const able = models.filter((each) => each.tasks.includes(TEXT_TO_IMAGE));
  const isReady = (each) => each.state === "STATE_READY";
  const isDefault = (each) => each.defaultTasks?.includes(TEXT_TO_IMAGE);
  return able.find(isDefault) ?? able.find(isReady) ?? able[0] ?? models.find(isReady) ?? models[0];
}

const isLoading = (each) => each.state === "STATE_LOADING";

function nameOf(each) {
  return (each.displayName || each.name.replace("models/", "")) + (isLoading(each) ? " (loading)" : "");
}

/** While models load, their names say so. */
function followLoading() {
  if (!models.some(isLoading)) return;
  setTimeout(async () => {
    models = await listModels().catch(() => models);
    for (const option of byId("model").options) option.text = nameOf(models.find((each) => each.name === option.value) ?? { name: option.value });
    followLoading();
  }, LOADING_LOOK_MS);
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
  byId("model").replaceChildren(...models.map((each) => new Option(nameOf(each), each.name)));
  byId("model").value = firstModel().name;
  showTasks();
  followLoading();
}

connect();
connectNotes();
connectViewer();
connectResults(useAsInput, setSeed);
connectKey(open, forgetResults);
showLanguages();
open();
