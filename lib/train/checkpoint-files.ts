import { HeedError } from "../util/errors.js";
import { writeTextAtomic } from "../formats/atomic-file.js";
import { jsonParts } from "../util/json.js";
import { inTurns } from "../util/turns.js";

/** Writes a value as JSON: to a temporary file first, which then replaces `file`. */
export async function writeJsonFile(file: string, value: unknown): Promise<void> {
  await writeTextAtomic(file, [...(await inTurns(jsonParts(value))), "\n"]);
}

/**
 * Returns the values after checking that each is finite.
 *
 * @throws ERR_DIVERGED if one is NaN or infinite.
 */
export function checkFinite(name: string, values: Float32Array): Float32Array {
  // 0 · x is 0 if x is finite and NaN otherwise, so that one sum answers for all elements, without branches.
  let sum = 0;
  for (const value of values) sum += 0 * value;
  if (sum !== 0) throw new HeedError("ERR_DIVERGED", `expected ${name} to be finite, got NaN or infinity in it`);
  return values;
}
