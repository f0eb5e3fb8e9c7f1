import type { EngineFlags } from "./inference-options.js";
import type { ServedFlags } from "./served-models.js";

/** The flags of `heed serve`. */
export interface ServeFlags extends ServedFlags, EngineFlags {
  host: string;
  port: number;
  maxTokens?: number;
  maxQueue?: number;
  maxSequences?: number;
  maxStepTime?: number;
  apiKeys?: string;
  sharePrefixCache?: boolean;
  requestsPerMinute?: number;
  sendSeconds?: number;
  maxConnections?: number;
  trustProxy?: true | string;
  allowedHost?: string[];
  corsOrigin?: string[];
  bodyLimit?: number;
  drainSeconds?: number;
  tlsCert?: string;
  tlsKey?: string;
  rawControlTokens?: boolean;
  strict?: boolean;
  storedResponses: number;
  truncate?: boolean;
  playground: boolean;
  logLevel: string;
}
