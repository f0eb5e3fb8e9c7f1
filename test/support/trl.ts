/** Records, and what Hugging Face's TRL makes of them, which lie beside a checkout and not in it. */
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const candidates = ["../../shared", "../../../shared", "../../../../shared"].map((relative) =>
  fileURLToPath(new URL(`${relative}/reference/trl`, import.meta.url)),
);

/** Folder of TRL's cases and of their tokenizer; null with a warning if it does not exist. */
export const trl = candidates.find((folder) => existsSync(folder)) ?? null;
if (!trl) console.warn("skipped: no cases of TRL in a folder shared/reference beside the checkout");

/** Returns the lines of a file of a case, such as "data" or "prepared". */
export function trlLines<T>(name: string, file: "data" | "prepared"): T[] {
  const text = readFileSync(path.join(trl!, name, `${file}.jsonl`), "utf8");
  return text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as T);
}
