// Schemas of others, by their collections.
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import path from "node:path";
import { gunzipSync } from "node:zlib";
import type { JsonSchema } from "../../lib/util/json-schema.js";

/** A schema and its name, which begins with that of its collection: "Github_easy/o1.json". */
export interface NamedSchema {
  readonly name: string;
  readonly schema: JsonSchema;
}

/**
 * Returns the schemas of a path by their collections: of a file with one of them in each line, of the files of that kind in
 * a folder, or of a folder with a folder of JSON files for each collection, as JSONSchemaBench publishes them.
 *
 * @throws if there are none.
 */
export function collectionsOf(given: string): Map<string, NamedSchema[]> {
  if (!existsSync(given)) throw new Error(`expected a path with schemas, got ${given}, which does not exist`);
  const found = new Map<string, NamedSchema[]>();
  const all = statSync(given).isDirectory() ? inFolder(given) : inLines(given);
  for (const one of all) {
    const [collection] = one.name.split("/") as [string];
    const others = found.get(collection);
    if (others) others.push(one);
    else found.set(collection, [one]);
  }
  if (found.size === 0) throw new Error(`expected a path with schemas, got ${given}, which has none`);
  return new Map([...found].sort(([a], [b]) => (a < b ? -1 : 1)));
}

function inFolder(folder: string): NamedSchema[] {
  const names = readdirSync(folder).sort();
  const files = names.filter((name) => /\.jsonl(?:\.gz)?$/.test(name));
  if (files.length > 0) return files.flatMap((file) => inLines(path.join(folder, file)));
  return names
    .filter((name) => statSync(path.join(folder, name)).isDirectory())
    .flatMap((collection) =>
      readdirSync(path.join(folder, collection))
        .filter((file) => file.endsWith(".json"))
        .sort()
        .map((file) => ({
          name: `${collection}/${file}`,
          schema: JSON.parse(readFileSync(path.join(folder, collection, file), "utf8")) as JsonSchema,
        })),
    );
}

function inLines(file: string): NamedSchema[] {
  const bytes = readFileSync(file);
  const text = (file.endsWith(".gz") ? gunzipSync(bytes) : bytes).toString();
  return text
    .split("\n")
    .filter((line) => line.trim() !== "")
    .map((line) => JSON.parse(line) as NamedSchema);
}
