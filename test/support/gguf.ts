import type { GgufValue } from "../../lib/formats/gguf-values.js";

/** Returns a value of a GGUF file with plain arrays. */
function plain(value: GgufValue): unknown {
  return typeof value === "object" ? Array.from(value, plain) : value;
}

export function plainMetadata(metadata: ReadonlyMap<string, GgufValue>): Record<string, unknown> {
  return Object.fromEntries([...metadata].map(([key, value]) => [key, plain(value)]));
}
