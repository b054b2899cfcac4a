/** Client of Darkroom, a gRPC service that makes images. */

export { Client, collect } from "./client.js";
export type { CallSettings, ClientOptions, FillRequest, GenerateRequest } from "./client.js";
export * from "./errors.js";
export type * from "./events.js";
export * from "./gen/darkroom/v1/image_pb.js";
export { GenerationEvent_Stage as Stage } from "./gen/darkroom/v1/image_service_pb.js";
export * from "./gen/darkroom/v1/model_service_pb.js";
