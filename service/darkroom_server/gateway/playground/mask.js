// The mask over the image: drawn with a brush by pointer or keyboard, inverted, or uploaded.

const MAX_UNDO_COUNT = 20;
const KEY_STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Stripes, to be seen on any picture. */
function stripes(context) {
  const tile = new OffscreenCanvas(16, 16);
  const pen = tile.getContext("2d");
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, 16, 16);
  pen.strokeStyle = "#d3123a";
  pen.lineWidth = 5;
  for (const x of [-16, 0, 16]) {
    pen.moveTo(x - 2, 18);
    pen.lineTo(x + 18, -2);
  }
  pen.stroke();
  return context.createPattern(tile, "repeat");
}

/** A canvas of the image's size. What is painted is repainted; what is clear is kept. */
export class Mask {
  constructor(canvas, brush, ring, changed) {
    this.canvas = canvas;
    this.brush = brush;
    this.ring = ring;
    this.changed = changed;
    this.context = canvas.getContext("2d", { willReadFrequently: true });
    this.past = [];
    this.last = null;
    this.cursor = { x: 0, y: 0 };
    canvas.addEventListener("pointerdown", (event) => this.begin(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerleave", () => this.hideRing());
    canvas.addEventListener("focus", () => canvas.matches(":focus-visible") && this.showRing());
    canvas.addEventListener("blur", () => this.hideRing());
    canvas.addEventListener("keydown", (event) => this.press(event));
    brush.addEventListener("input", () => this.ring.hidden || this.showRing());
    for (const name of ["pointerup", "pointercancel"])
      canvas.addEventListener(name, () => { if (this.last) { this.last = null; this.changed(); } });
  }

  /** An empty mask of this size. */
  reset(width, height) {
    this.canvas.width = width;
    this.canvas.height = height;
    this.cursor = { x: width / 2, y: height / 2 };
    this.past = [];
    this.pattern = stripes(this.context);
    this.changed();
  }

  begin(event) {
    event.preventDefault();
    this.canvas.setPointerCapture(event.pointerId);
    this.remember();
    this.last = this.at(event);
    this.stroke(this.last);
  }

  move(event) {
    this.cursor = this.at(event);
    this.showRing();
    if (this.last) this.stroke(this.cursor);
  }

  press(event) {
    const step = KEY_STEPS[event.key];
    if (step) {
      const length = (event.shiftKey ? 4 : 1) * this.scale() * Math.max(2, this.brush.value / 4);
      const within = (value, limit) => Math.min(limit, Math.max(0, value));
      this.cursor = { x: within(this.cursor.x + step[0] * length, this.canvas.width), y: within(this.cursor.y + step[1] * length, this.canvas.height) };
    } else if (event.key === " ") {
      if (!event.repeat) this.remember();
      this.last = this.cursor;
      this.stroke(this.cursor);
      this.last = null;
      this.changed();
    } else if (event.key === "[" || event.key === "]") {
      this.brush.value = Number(this.brush.value) + (event.key === "]" ? 8 : -8);
    } else if (event.key === "z" && (event.ctrlKey || event.metaKey)) {
      this.undo();
    } else {
      return;
    }
    event.preventDefault();
    this.showRing();
  }

  stroke(here) {
    const context = this.context;
    context.strokeStyle = this.pattern;
    context.lineCap = context.lineJoin = "round";
    context.lineWidth = this.brush.value * this.scale();
    context.beginPath();
    context.moveTo(this.last.x, this.last.y);
    // A line without length would not be drawn, but a click is to leave a dot.
    context.lineTo(here.x + 0.01, here.y);
    context.stroke();
    this.last = here;
  }

  /** Shows where the brush is, and how large. */
  showRing() {
    const size = `${this.brush.value}px`;
    Object.assign(this.ring.style, { left: `${this.cursor.x / this.scale()}px`, top: `${this.cursor.y / this.scale()}px`, width: size, height: size });
    this.ring.hidden = false;
  }

  hideRing() {
    this.ring.hidden = true;
  }

  /** Pixels of the image in one of the page. */
  scale() {
    return this.canvas.width / this.canvas.getBoundingClientRect().width;
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: (event.clientX - box.left) * this.scale(), y: (event.clientY - box.top) * this.scale() };
  }

  pixels() {
    return this.context.getImageData(0, 0, this.canvas.width, this.canvas.height);
  }

  remember() {
    this.past.push(this.pixels());
    if (this.past.length > MAX_UNDO_COUNT) this.past.shift();
  }

  undo() {
    const before = this.past.pop();
    if (before) this.context.putImageData(before, 0, 0);
    this.changed();
  }

  clear() {
    this.remember();
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.changed();
  }

  invert() {
    this.paint((pixels, i) => pixels[i + 3] < 128);
  }

  /** Takes an uploaded mask: white is repainted. Throws for a file that is no image. */
  async load(file) {
    const bitmap = await createImageBitmap(file);
    const canvas = new OffscreenCanvas(this.canvas.width, this.canvas.height);
    const context = canvas.getContext("2d");
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    const given = context.getImageData(0, 0, canvas.width, canvas.height).data;
    this.paint((_, i) => given[i] * 0.299 + given[i + 1] * 0.587 + given[i + 2] * 0.114 >= 128);
  }

  paint(isPainted) {
    this.remember();
    const image = this.pixels();
    const pixels = image.data;
    for (let i = 0; i < pixels.length; i += 4) pixels[i + 3] = isPainted(pixels, i) ? 255 : 0;
    const { context, canvas } = this;
    context.putImageData(image, 0, 0);
    context.globalCompositeOperation = "source-in";
    context.fillStyle = this.pattern;
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.globalCompositeOperation = "source-over";
    this.changed();
  }

  isEmpty() {
    const pixels = this.pixels().data;
    for (let i = 3; i < pixels.length; i += 4) if (pixels[i] >= 128) return false;
    return true;
  }

  /** The mask as a PNG in base64: white where it is painted, black elsewhere. */
  base64() {
    const image = this.pixels();
    const pixels = image.data;
    for (let i = 0; i < pixels.length; i += 4) {
      const value = pixels[i + 3] >= 128 ? 255 : 0;
      pixels.set([value, value, value, 255], i);
    }
    const canvas = document.createElement("canvas");
    canvas.width = image.width;
    canvas.height = image.height;
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas.toDataURL("image/png").split(",")[1];
  }
}
