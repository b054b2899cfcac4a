// The mask over the image: drawn with a brush, inverted, or uploaded.

const MAX_UNDO_COUNT = 20;

/** A canvas of the image's size. What is painted is repainted; what is clear is kept. */
export class Mask {
  constructor(canvas, brush, changed) {
    this.canvas = canvas;
    this.brush = brush;
    this.changed = changed;
    this.context = canvas.getContext("2d", { willReadFrequently: true });
    this.past = [];
    this.last = null;
    canvas.addEventListener("pointerdown", (event) => this.begin(event));
    canvas.addEventListener("pointermove", (event) => this.last && this.draw(event));
    for (const name of ["pointerup", "pointercancel"])
      canvas.addEventListener(name, () => { if (this.last) { this.last = null; this.changed(); } });
  }

  /** An empty mask of this size. */
  reset(width, height) {
    this.canvas.width = width;
    this.canvas.height = height;
    this.past = [];
    this.changed();
  }

  begin(event) {
    event.preventDefault();
    this.canvas.setPointerCapture(event.pointerId);
    this.remember();
    this.last = this.at(event);
    this.draw(event);
  }

  draw(event) {
    const here = this.at(event);
    const context = this.context;
    context.strokeStyle = "#fff";
    context.lineCap = context.lineJoin = "round";
    context.lineWidth = this.brush.value * this.scale();
    context.beginPath();
    context.moveTo(this.last.x, this.last.y);
    // A line without length would not be drawn, but a click is to leave a dot.
    context.lineTo(here.x + 0.01, here.y);
    context.stroke();
    this.last = here;
  }

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

  /** Takes an uploaded mask: white is repainted. */
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
    for (let i = 0; i < pixels.length; i += 4) pixels.set(isPainted(pixels, i) ? [255, 255, 255, 255] : [0, 0, 0, 0], i);
    this.context.putImageData(image, 0, 0);
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
