/**
 * The HTTP server: OpenAI's interface over the engine.
 *
 * @module heed/server
 */
export { createServer, type CreateServerOptions } from "./app.js";
export type { AccessOptions } from "./access.js";
export { readApiKeys } from "./api-keys.js";
export { type BatchOptions, type BatchResult, runBatch } from "./batch.js";
export { type BatchLock, lockBatch } from "./batch-output.js";
export type { DrainOptions } from "./drain.js";
export type { HostOptions } from "./exposure.js";
export { heedServer, type ServerOptions } from "./plugin.js";
export type { RequestLimits } from "./endpoint.js";
export type { SendOptions } from "./stalls.js";
export type { ServableModel, ServedSummary } from "./served-models.js";
export type { ServedEngineOptions } from "./shared-memory.js";
