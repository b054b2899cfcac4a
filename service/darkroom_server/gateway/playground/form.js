// The form: which fields a model has, what they may hold, and the request that they make.

export const TASKS = {
  TASK_TEXT_TO_IMAGE: { label: "Text to image", method: "generate", rpc: "Generate" },
  TASK_IMAGE_TO_IMAGE: { label: "Image to image", method: "generate", rpc: "Generate" },
  TASK_FILL: { label: "Fill", method: "fill", rpc: "Fill" },
};
const NUMBERS = ["width_px", "height_px", "step_count", "guidance_scale", "strength", "image_count"];
const IMAGE_FIELDS = ["image", "strength"];
const FILL_FIELDS = ["preserve_unmasked"];

export const byId = (id) => document.getElementById(id);

const camel = (name) => name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());

/** Shows the fields of the model for the task, with its limits and defaults. */
export function showFields(model, task) {
  const takesImage = task !== "TASK_TEXT_TO_IMAGE";
  const specs = new Map((model.parameters ?? []).map((spec) => [spec.field, spec]));
  for (const label of document.querySelectorAll("[data-field]")) {
    const field = label.dataset.field;
    const isImage = IMAGE_FIELDS.includes(field);
    const shown = field === "prompt" || field === "image" || Boolean(specs.get(field)?.effective);
    label.hidden = !shown || (isImage && !takesImage) || (FILL_FIELDS.includes(field) && task !== "TASK_FILL");
  }
  for (const field of NUMBERS) limit(byId(field), specs.get(field) ?? {});
  byId("preserve_unmasked").checked = specs.get("preserve_unmasked")?.defaultValue !== 0;
  for (const field of ["width_px", "height_px"])
    if (takesImage) Object.assign(byId(field), { value: "", placeholder: "auto" });
  // Unlike a fill's, its default is no model's.
  if (task === "TASK_IMAGE_TO_IMAGE") Object.assign(byId("strength"), { value: "", placeholder: "auto" });
  byId("mask-tools").hidden = byId("mask-hint").hidden = byId("mask").hidden = task !== "TASK_FILL";
  byId("scheduler").replaceChildren(
    ...(model.schedulers ?? []).map((name) => new Option(name.replace(/Scheduler$/, ""), name, name === model.defaultScheduler, name === model.defaultScheduler)),
  );
}

function limit(input, spec) {
  input.min = spec.minValue ?? "";
  input.max = spec.maxValue ?? "";
  input.step = spec.stepValue ?? "any";
  input.value = spec.defaultValue ?? "";
  input.placeholder = "";
}

/** The request as the form stands. `image` and `mask` are base64. */
export function request(model, { image, mask }) {
  const made = { model: model.name, prompt: byId("prompt").value.trim() };
  for (const field of ["negative_prompt", "scheduler"]) if (isShown(field) && byId(field).value) made[camel(field)] = byId(field).value;
  for (const field of NUMBERS) if (isShown(field) && byId(field).value !== "") made[camel(field)] = Number(byId(field).value);
  if (isShown("preserve_unmasked")) made.preserveUnmasked = byId("preserve_unmasked").checked;
  // A seed may have more digits than a JavaScript number.
  if (isShown("seed") && byId("seed").value) made.seed = byId("seed").value;
  if (byId("format").value !== "OUTPUT_FORMAT_PNG") made.output = { format: byId("format").value };
  if (image) made.image = { content: image };
  if (mask) made.mask = { content: mask };
  return made;
}

function isShown(field) {
  return !document.querySelector(`[data-field=${field}]`).hidden;
}
