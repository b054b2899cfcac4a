// The form: which fields a model has, what they may hold, and the request that they make.

import { showChoices } from "./choices.js";

export const TASKS = {
  TASK_TEXT_TO_IMAGE: { label: "Text to image", method: "generate", rpc: "Generate" },
  TASK_IMAGE_TO_IMAGE: { label: "Image to image", method: "generate", rpc: "Generate" },
  TASK_EDIT: { label: "Edit", method: "generate", rpc: "Generate" },
  TASK_FILL: { label: "Fill", method: "fill", rpc: "Fill" },
};
const NUMBERS = ["width_px", "height_px", "step_count", "guidance_scale", "strength", "image_count"];
const IMAGE_FIELDS = ["image", "strength"];
const FILL_FIELDS = ["preserve_unmasked"];
const EDGES = [
  ["keep", "Kept to the pixel", "What is not drawn over stays as it is; what is new fades in along the inside of the edge."],
  ["blend", "Soft edge", "The model paints across the edge, and every pixel goes through its autoencoder: all change a little."],
];
// For models that read any text; those of a small vocabulary name their own.
const ANY_TEXT = ["a lighthouse on a cliff at sunset", "a bowl of ramen, overhead photograph", "a fox in the snow, watercolour", "an isometric cutaway of a bakery"];

export const byId = (id) => document.getElementById(id);

const camel = (name) => name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());

/** Prompts that the model draws well. */
export function examplesOf(model) {
  return model.vocabulary?.examplePrompts ?? ANY_TEXT;
}

/** Whether the task begins with one image, which is changed. */
export const takesImage = (task) => task === "TASK_IMAGE_TO_IMAGE" || task === "TASK_FILL";

/** How many images a request may have to go by, alone or beside the one that is changed, and whether it needs one. */
export function referencesOf(model, task) {
  const { minCount = 0, maxCount = 1, maxBesideCount = 0 } = model.referenceImages ?? {};
  const edits = model.tasks.includes("TASK_EDIT");
  if (task === "TASK_EDIT") return { most: maxCount, isNeeded: true };
  // Of a model that edits it is the one that is filled which another may stand beside.
  if (!takesImage(task) || (edits && task !== "TASK_FILL")) return { most: 0, isNeeded: false };
  return { most: maxBesideCount, isNeeded: !edits && minCount > 0 };
}

/** Whether a size that is not said is that of an image. */
function followsImage(model, task) {
  return takesImage(task) || (task === "TASK_EDIT" && model.referenceImages?.sizeSource !== "SIZE_SOURCE_DEFAULT");
}

/** Shows the fields of the model for the task, with its limits and defaults. */
export function showFields(model, task) {
  const specs = new Map((model.parameters ?? []).map((spec) => [spec.field, spec]));
  for (const label of document.querySelectorAll("#form [data-field]")) {
    const field = label.dataset.field;
    const isImage = IMAGE_FIELDS.includes(field);
    const shown = ["prompt", "image", "format"].includes(field) || Boolean(specs.get(field)?.effective);
    label.hidden = !shown || (field === "adapters" && !model.adapters?.length) || (isImage && !takesImage(task)) || (field === "reference_images" && !referencesOf(model, task).most) || (FILL_FIELDS.includes(field) && task !== "TASK_FILL");
  }
  for (const field of NUMBERS) limit(byId(field), specs.get(field) ?? {});
  showEdges(specs.get("preserve_unmasked")?.defaultValue !== 0 ? "keep" : "blend");
  for (const field of ["width_px", "height_px"])
    if (followsImage(model, task)) Object.assign(byId(field), { value: "", placeholder: "auto" });
  // Unlike a fill's, its default is no model's.
  if (task === "TASK_IMAGE_TO_IMAGE") Object.assign(byId("strength"), { value: "", placeholder: "auto" });
  byId("mask-tools").hidden = byId("mask-hint").hidden = byId("mask").hidden = task !== "TASK_FILL";
  byId("scheduler").replaceChildren(
    ...(model.schedulers ?? []).map((name) => new Option(name.replace(/Scheduler$/, ""), name, name === model.defaultScheduler, name === model.defaultScheduler)),
  );
}

function showEdges(chosen) {
  const explain = (value) => { byId("edge-hint").textContent = EDGES.find(([name]) => name === value)[2]; };
  showChoices(byId("edges"), EDGES.map(([value, text]) => [value, text]), chosen, explain);
  explain(chosen);
}

function limit(input, spec) {
  input.min = spec.minValue ?? "";
  input.max = spec.maxValue ?? "";
  input.step = spec.stepValue ?? "any";
  input.value = spec.defaultValue ?? "";
  input.placeholder = "";
}

/** The request as the form stands. `image`, `mask` and `references` are base64, `adapters` as the request has them. */
export function request(model, { image, mask, references = [], adapters = [] }) {
  const made = { model: model.name, prompt: byId("prompt").value.trim() };
  for (const field of ["negative_prompt", "scheduler"]) if (isShown(field) && byId(field).value) made[camel(field)] = byId(field).value;
  for (const field of NUMBERS) if (isShown(field) && byId(field).value !== "") made[camel(field)] = Number(byId(field).value);
  if (isShown("preserve_unmasked")) made.preserveUnmasked = document.querySelector("#edges :checked").value === "keep";
  // A seed may have more digits than a JavaScript number.
  if (isShown("seed") && byId("seed").value) made.seed = byId("seed").value;
  if (byId("format").value !== "OUTPUT_FORMAT_PNG") made.output = { format: byId("format").value };
  if (image) made.image = { content: image };
  if (mask) made.mask = { content: mask };
  if (adapters.length && isShown("adapters")) made.adapters = adapters;
  if (references.length) made.referenceImages = references.map((content) => ({ content }));
  return made;
}

function isShown(field) {
  return !document.querySelector(`#form [data-field=${field}]`).hidden;
}
