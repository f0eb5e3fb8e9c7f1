import type { KvType } from "../nn/kv-pages.js";
import type { ServedFlags } from "./served-models.js";

/** The flags of `heed serve`. */
export interface ServeFlags extends ServedFlags {
  host: string;
  port: number;
  maxTokens?: number;
  maxQueue?: number;
  maxSequences?: number;
  maxStepTime?: number;
  kvType?: KvType;
  apiKeys?: string;
  requestsPerMinute?: number;
  corsOrigin?: string[];
  bodyLimit?: number;
  drainSeconds?: number;
  tlsCert?: string;
  tlsKey?: string;
  playground: boolean;
  logLevel: string;
}
