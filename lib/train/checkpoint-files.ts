import { readFile } from "node:fs/promises";
import { HeedError } from "../errors.js";
import { naming, writeFileAtomic } from "../formats/atomic-file.js";

/** The value in a JSON file. Throws ERR_IO or ERR_FORMAT with the file's name. */
export async function readJsonFile(file: string): Promise<unknown> {
  const text = await naming(file, () => readFile(file, "utf8"));
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new HeedError("ERR_FORMAT", `${file}: expected JSON: ${(cause as Error).message}`, { cause });
  }
}

export async function writeJsonFile(file: string, value: unknown): Promise<void> {
  await writeFileAtomic(file, async (handle) => {
    await handle.writeFile(`${JSON.stringify(value, null, 2)}\n`);
  });
}

/** The values, if each is finite. Throws ERR_DIVERGED. */
export function checkFinite(name: string, values: Float32Array): Float32Array {
  // 0 · x is 0 for what is finite and NaN for what is not: one sum tells, without a branch an element.
  let sum = 0;
  for (const value of values) sum += 0 * value;
  if (sum !== 0) throw new HeedError("ERR_DIVERGED", `expected ${name} to be finite, got NaN or infinity in it`);
  return values;
}
