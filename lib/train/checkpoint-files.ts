import { HeedError } from "../errors.js";
import { writeTextAtomic } from "../formats/atomic-file.js";
import { jsonParts } from "../json.js";
import { inTurns } from "../turns.js";

export async function writeJsonFile(file: string, value: unknown): Promise<void> {
  await writeTextAtomic(file, [...(await inTurns(jsonParts(value))), "\n"]);
}

/** The values, if each is finite. Throws ERR_DIVERGED. */
export function checkFinite(name: string, values: Float32Array): Float32Array {
  // 0 · x is 0 for what is finite and NaN for what is not: one sum tells, without a branch an element.
  let sum = 0;
  for (const value of values) sum += 0 * value;
  if (sum !== 0) throw new HeedError("ERR_DIVERGED", `expected ${name} to be finite, got NaN or infinity in it`);
  return values;
}
