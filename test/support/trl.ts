/** Records, and what Hugging Face's TRL makes of them, which lie beside a checkout and not in it. */
import { readFileSync } from "node:fs";
import path from "node:path";
import { sharedReference } from "./shared.js";

/** Folder of TRL's cases and of their tokenizer; null if it does not exist. */
export const trl = sharedReference("trl");

/** Returns the lines of a file of a case, such as "data" or "prepared". */
export function trlLines<T>(name: string, file: "data" | "prepared"): T[] {
  const text = readFileSync(path.join(trl!, name, `${file}.jsonl`), "utf8");
  return text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as T);
}
