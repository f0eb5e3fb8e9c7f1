import { readFileSync, writeFileSync } from "node:fs";

/** Changes the object in a JSON file. */
export function editJson(file: string, change: (json: Record<string, unknown>) => unknown): void {
  writeFileSync(file, JSON.stringify(change(JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>)));
}
