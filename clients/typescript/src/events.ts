/**
 * What a streaming call reports, in the order of the stream:
 * accepted, queued*, (progress | preview | image)*, completed.
 * Progress and previews may be left out for a slow reader.
 */

import type { BatchInfo, EffectiveParameters, Timings, Warning } from "./gen/darkroom/v1/image_pb.js";
import type { GenerationEvent_Preview, GenerationEvent_Stage } from "./gen/darkroom/v1/image_service_pb.js";

/** The request is valid and admitted. Always first. */
export interface Accepted {
  kind: "accepted";
  generationId: string;
  requestId: string;
  parameters: EffectiveParameters;
  warnings: Warning[];
}

/** Waiting behind `aheadCount` requests, or for the model to load. */
export interface Queued {
  kind: "queued";
  aheadCount: number;
  modelLoading: boolean;
  /** Until the images are made, as far as the server can tell. */
  estimatedMs: number | undefined;
}

/** A stage began or a denoising step ended; the counts are 0 outside denoising. */
export interface Progress {
  kind: "progress";
  stage: GenerationEvent_Stage;
  completedStepCount: number;
  totalStepCount: number;
}

/** A small picture of an image so far. */
export interface Preview {
  kind: "preview";
  preview: GenerationEvent_Preview;
}

/** An image, whole and checked against its announced size and SHA-256. */
export interface ImageReady {
  kind: "image";
  image: GeneratedImage;
}

/** All images were sent. Always last. */
export interface Completed {
  kind: "completed";
  imageCount: number;
  timings: Timings | undefined;
  batch: BatchInfo | undefined;
  /** What became clear only while it ran. */
  warnings: Warning[];
}

export type Event = Accepted | Queued | Progress | Preview | ImageReady | Completed;

/**
 * One image as the encoded file it came in. With `contentFiltered` a content filter of the service
 * objected: the image is black, or withheld, and then `content` is empty.
 */
export interface GeneratedImage {
  content: Uint8Array;
  mediaType: string;
  widthPx: number;
  heightPx: number;
  seed: bigint;
  imageIndex: number;
  /** Hexadecimal. */
  sha256: string;
  contentFiltered: boolean;
}

/** What a finished call gives. */
export interface Generation {
  images: GeneratedImage[];
  accepted: Accepted;
  completed: Completed;
}
