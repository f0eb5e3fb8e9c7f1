import type { InferenceFlags, quantizedTypes } from "./inference-options.js";

/** The flags of `heed serve`. */
export interface ServeFlags extends InferenceFlags {
  model: string[];
  name?: string[];
  host: string;
  port: number;
  maxTokens?: number;
  maxQueue?: number;
  maxSequences?: number;
  apiKeys?: string;
  requestsPerMinute?: number;
  corsOrigin?: string[];
  bodyLimit?: number;
  drainSeconds?: number;
  tlsCert?: string;
  tlsKey?: string;
  logLevel: string;
  quantize?: keyof typeof quantizedTypes;
}
