/** From the messages of a stream to events, with images put together and checked. */

import { createHash } from "node:crypto";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { CorruptImage } from "./errors.js";
import type { Completed, Event, ImageReady } from "./events.js";
import {
  type GenerationEvent,
  type GenerationEvent_Chunk,
  type GenerationEvent_Completed,
  GenerationEvent_FinishReason,
  type GenerationEvent_Image,
} from "./gen/darkroom/v1/image_service_pb.js";

/** Reads one stream: `feed` every message, then `finish`. Both throw CorruptImage. */
export class EventAssembler {
  #announced: GenerationEvent_Image | undefined;
  #parts: Uint8Array[] = [];
  #sizeBytes = 0;
  #imageIndices = new Set<number>();
  #completed = false;

  constructor(readonly requestId: string) {}

  /** The event, or undefined for one that is unknown or only a part of an image. */
  feed(message: GenerationEvent): Event | undefined {
    const { event } = message;
    if (event.case === undefined) return undefined;
    if (this.#completed) throw this.#corrupt(`an event ${event.case} came after the end`);
    switch (event.case) {
      case "accepted": {
        const { parameters } = event.value;
        if (parameters === undefined) throw this.#corrupt("no parameters came");
        const { generationId, warnings } = event.value;
        return { kind: "accepted", generationId, requestId: this.requestId, parameters, warnings };
      }
      case "queued": {
        const { aheadCount, modelLoading, estimatedDuration } = event.value;
        return { kind: "queued", aheadCount, modelLoading, estimatedMs: estimatedDuration && durationMs(estimatedDuration) };
      }
      case "progress": {
        const { stage, completedStepCount, totalStepCount } = event.value;
        return { kind: "progress", stage, completedStepCount, totalStepCount };
      }
      case "preview":
        return { kind: "preview", preview: event.value };
      case "image":
        return this.#image(event.value);
      case "chunk":
        return this.#chunk(event.value);
      case "completed":
        return this.#complete(event.value);
    }
  }

  /** Says that the stream ended without an error. */
  finish(): void {
    if (!this.#completed) throw this.#corrupt("the stream ended early");
  }

  #image(image: GenerationEvent_Image): ImageReady | undefined {
    this.#requireWhole();
    if (this.#imageIndices.has(image.imageIndex)) throw this.#corrupt(`image ${image.imageIndex} came twice`);
    this.#imageIndices.add(image.imageIndex);
    this.#announced = image;
    this.#parts = [];
    this.#sizeBytes = 0;
    return this.#imageIfWhole(image);
  }

  #chunk(chunk: GenerationEvent_Chunk): ImageReady | undefined {
    const image = this.#announced;
    if (image?.imageIndex !== chunk.imageIndex) throw this.#corrupt(`bytes of image ${chunk.imageIndex} were not announced`);
    const offset = Number(chunk.offsetBytes);
    if (offset !== this.#sizeBytes) {
      const what = offset > this.#sizeBytes ? "missing" : "doubled";
      throw this.#corrupt(`bytes of image ${image.imageIndex} are ${what}: offset ${offset} instead of ${this.#sizeBytes}`);
    }
    this.#parts.push(chunk.content);
    this.#sizeBytes += chunk.content.length;
    if (this.#sizeBytes > image.sizeBytes) throw this.#corrupt(`image ${image.imageIndex} is longer than announced`);
    return this.#imageIfWhole(image);
  }

  #imageIfWhole(image: GenerationEvent_Image): ImageReady | undefined {
    if (this.#sizeBytes < image.sizeBytes) return undefined;
    const contentFiltered = image.finishReason === GenerationEvent_FinishReason.CONTENT_FILTERED;
    const content = new Uint8Array(Buffer.concat(this.#parts));
    const digest = createHash("sha256").update(content).digest();
    if (!contentFiltered && !digest.equals(image.sha256)) {
      throw this.#corrupt(`image ${image.imageIndex} does not match its SHA-256`);
    }
    this.#announced = undefined;
    this.#parts = [];
    const { mediaType, widthPx, heightPx, seed, imageIndex } = image;
    const sha256 = digest.toString("hex");
    return { kind: "image", image: { content, mediaType, widthPx, heightPx, seed, imageIndex, sha256, contentFiltered } };
  }

  #complete(completed: GenerationEvent_Completed): Completed {
    this.#requireWhole();
    const { imageCount, timings, batch, warnings } = completed;
    if (imageCount !== this.#imageIndices.size) {
      throw this.#corrupt(`${this.#imageIndices.size} images came instead of ${imageCount}`);
    }
    this.#completed = true;
    return { kind: "completed", imageCount, timings, batch, warnings };
  }

  #requireWhole(): void {
    const image = this.#announced;
    if (image) {
      throw this.#corrupt(`image ${image.imageIndex} has ${this.#sizeBytes} of the ${image.sizeBytes} bytes announced`);
    }
  }

  #corrupt(message: string): CorruptImage {
    return new CorruptImage(message, { requestId: this.requestId });
  }
}
