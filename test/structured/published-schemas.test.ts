/** Schemas of others: the official test suite, and those that projects have published. */
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { gunzipSync } from "node:zlib";
import { expect, test } from "vitest";
import type { JsonSchema } from "../../lib/util/json-schema.js";
import type { Expression } from "../../lib/structured/expression.js";
import { ByteTokenizer } from "../../lib/tokenizer/byte-tokenizer.js";
import { nightly } from "../support/nightly.js";
import { noReference, sharedReference } from "../support/shared.js";
import { testUnless } from "../support/skip.js";
import { ajvOf } from "./oracle.js";
import { sampler } from "./sample.js";
import { acceptedBy, automatonOf, schemaOf as read } from "./support.js";

const draft4 = "http://json-schema.org/draft-04/schema#";
const automaton = automatonOf(new ByteTokenizer());
const accepts = (root: Expression, text: string): boolean => acceptedBy(automaton, root, text);

/** A group of the official test suite of JSON Schema. */
interface Group {
  description: string;
  schema: JsonSchema;
  tests: { description: string; data: unknown; valid: boolean }[];
}

test("the official test suite of draft 4", () => {
  const root = path.dirname(createRequire(import.meta.url).resolve("json-schema-test-suite/package.json"));
  const folder = path.join(root, "tests/draft4");
  /** Values that are valid and that heed does not write: docs/guides/structured-output.md says so. */
  const restricted = /additional properties are allowed|doesn't invalidate other properties|bignum|both anyOf valid/;
  const counts = { accepted: 0, refused: 0, missed: [] as string[] };
  for (const file of readdirSync(folder).filter((name) => name.endsWith(".json")))
    for (const { description, schema, tests } of JSON.parse(readFileSync(path.join(folder, file), "utf8")) as Group[]) {
      let found: Expression;
      try {
        found = read({ $schema: draft4, ...schema });
      } catch (error) {
        expect(error).toMatchObject({ code: "ERR_ARGUMENT" });
        counts.refused++;
        continue;
      }
      counts.accepted++;
      for (const { data, valid, description: about } of tests) {
        const accepted = ordersOf(data).some((value) => accepts(found, JSON.stringify(value)));
        const name = `${file}: ${description}: ${about}`;
        if (!valid) expect(accepted, name).toBe(false);
        else if (!accepted && !restricted.test(name)) counts.missed.push(name);
      }
    }
  expect(counts.missed).toEqual([]);
  expect(counts.accepted).toBeGreaterThanOrEqual(60);
});

/** Returns a value with the properties of an object in all orders. */
function ordersOf(value: unknown): unknown[] {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return [value];
  const orders = (list: [string, unknown][]): [string, unknown][][] =>
    list.length < 2 || list.length > 4
      ? [list]
      : list.flatMap((one) => orders(list.filter((other) => other !== one)).map((rest) => [one, ...rest]));
  return orders(Object.entries(value)).map((entries) => Object.fromEntries(entries));
}

const published = sharedReference("schemas");

testUnless(!published && noReference)("real schemas: what is generated is valid", { timeout: 30 * 60_000 }, () => {
  const lines = gunzipSync(readFileSync(path.join(published!, "schemas.jsonl.gz")))
    .toString()
    .trim()
    .split("\n");
  const chosen = lines.filter((_, i) => nightly || i % 60 === 0);
  let accepted = 0;
  for (const line of chosen) {
    const { name, schema } = JSON.parse(line) as { name: string; schema: JsonSchema };
    let root: Expression;
    try {
      root = read(schema);
    } catch (error) {
      expect(error, name).toMatchObject({ code: "ERR_ARGUMENT" });
      continue;
    }
    accepted++;
    const valid = ajvOf(schema);
    if (!valid) continue;
    const sample = sampler(root);
    for (let seed = 0; seed < (nightly ? 10 : 4); seed++) {
      const text = sample(seed, seed === 0 ? 0 : 300);
      expect(valid(JSON.parse(text)), `${name}: ${text.slice(0, 300)}`).toBe(true);
    }
  }
  expect(accepted).toBeGreaterThan(0.9 * chosen.length);
});
