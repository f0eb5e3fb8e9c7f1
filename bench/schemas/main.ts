/**
 * npm run bench:schemas [-- PATH] [--only Github_hard] [--every N] [--texts N] [--json FILE] [--list] [--write] [--smoke]
 *
 * Reads real JSON schemas, ../shared/reference/schemas unless PATH names others: files with a schema in each line, as
 * {"name": "Github_easy/o1.json", "schema": {…}}, or folders of JSON files. For each collection it counts the schemas that
 * heed accepts, has ajv judge texts of them, and measures how long it takes to compile them and to find the tokens that may
 * follow, with a vocabulary of 151,936 tokens. --every takes each N-th schema only. --list prints why schemas are refused,
 * and which of them are slow. --write renews the section of docs/benchmarks.md and the numbers in bench/results; it needs
 * all schemas. --smoke reads a few made-up schemas, for seconds.
 */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { device } from "heed";
import { machineOf } from "../machine.js";
import { publishSchemas } from "../publish.js";
import { collectionsOf, type NamedSchema } from "./collections.js";
import { Drawer } from "./draw.js";
import { measured } from "./measure.js";
import { line, type SchemasRow, type SchemasRun } from "./report.js";
import { Tally } from "./tally.js";
import { vocabularyName } from "./vocabulary.js";

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    only: { type: "string", default: "" },
    every: { type: "string", default: "1" },
    texts: { type: "string", default: "3" },
    json: { type: "string" },
    list: { type: "boolean", default: false },
    write: { type: "boolean", default: false },
    smoke: { type: "boolean", default: false },
  },
});

const [every, texts] = [Number(flags.every), Number(flags.texts)];
if (flags.write && (flags.only !== "" || every !== 1 || flags.smoke))
  throw new Error("--write: expected a run of all schemas, got --only, --every or --smoke");

const madeUp: NamedSchema[] = [
  { type: "object", properties: { a: { type: "string", maxLength: 9 }, b: { type: "integer" } }, required: ["a"] },
  { type: "array", items: { enum: ["x", "y", 1] }, uniqueItems: true },
  { type: "string", pattern: "(?<=a)b" },
  { type: "string", pattern: "^(?:[a-z]+-)*[a-z]+$", maxLength: 40 },
  {},
].map((schema, i) => ({ name: `made-up/${i}.json`, schema }));

const collections = flags.smoke
  ? new Map([["made-up", madeUp]])
  : collectionsOf(positionals[0] ?? "../shared/reference/schemas");
const wanted = flags.only.split(",").filter((name) => name !== "");
const all = new Tally("all");
const rows: SchemasRow[] = [];
const drawer = new Drawer();
console.log(`heed on ${machineOf(device("cpu"))}, with ${vocabularyName}`);
// A server has answered before: V8 has compiled what finds tokens.
for (const one of madeUp) await measured(one, 8, drawer);
for (const [collection, schemas] of collections) {
  if (wanted.length > 0 && !wanted.includes(collection)) continue;
  const own = new Tally(collection);
  for (const one of schemas.filter((_, i) => i % every === 0)) {
    const result = await measured(one, texts, drawer);
    for (const tally of [own, all]) tally.add(one.name, result);
    if (flags.list && result.refusal !== null) console.log(`  ${one.name}: ${result.refusal.slice(0, 300)}`);
    for (const text of result.texts.invalid) console.log(`  ${one.name}: ajv refuses ${text.slice(0, 300)}`);
  }
  rows.push(own.row);
  console.log(line(own.row));
  if (flags.list) console.log(`  slowest: ${JSON.stringify(own.row.notable)}`);
}
await drawer[Symbol.asyncDispose]();
if (rows.length > 1) rows.push(all.row);
console.log(line(all.row));
const run: SchemasRun = {
  machine: machineOf(device("cpu")),
  date: new Date().toISOString().slice(0, 10),
  ...{ vocabulary: vocabularyName, texts, rows },
};
if (flags.json) writeFileSync(flags.json, `${JSON.stringify(run, null, 2)}\n`);
if (flags.write) await publishSchemas(run, "cpu");
