/**
 * docs/limits.md lists every field of every route, and every format of files, with its limit and what a value at the limit
 * costs. It is made from the schemas of the routes and the constants of the readers: `npm run limits` writes it.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import * as prettier from "prettier";
import { describe, expect, test } from "vitest";
import { endpoints } from "../../lib/server/endpoints.js";
import { validator } from "../../lib/server/json-schema.js";
import { fieldLimits, fieldRows, type Schema } from "./field-limits.js";
import { fileLimits, fileRows } from "./file-limits.js";
import { table } from "./limits-text.js";

const file = fileURLToPath(new URL("../../docs/limits.md", import.meta.url));
/** The server's limit of a body, unless it is set otherwise. */
const body = 4 * 2 ** 20;

async function page(): Promise<string> {
  const routes = endpoints.map(
    ({ url, summary, schema }) =>
    [`### \`${url}\``, `${summary}.`, table(["Field", "Limit", "At the limit"], fieldRows(fieldLimits(schema), body))].join("\n\n"), // prettier-ignore
  );
  const text = `# Limits

What strangers send or write has a limit, and is refused by its name beyond it. \`npm run limits\` makes this page from the
schemas of the routes and from the constants of the readers, and a test fails if it is out of date or a field has no limit
([limits.test.ts](../test/docs/limits.test.ts)).

## Requests

A body has at most 4 MiB, which \`--body-limit\` changes, and the head of a request at most 16 KiB. Whatever the limits of its
fields are, a request takes no more than follows from its body. Tokens are limited by the model's context, and by
\`--max-tokens\` for each answer. "\`[]\`" stands for the items of an array, "\`.*\`" for the values of an object, and
"\`<message>\`" for an item of this type. Fields that heed does not support are left out: they are refused unless they ask
for nothing.

${routes.join("\n\n")}

## Files

${table(["Format", "Part", "Limit", "At the limit"], fileRows())}
`;
  const options = await prettier.resolveConfig(file);
  return prettier.format(text, { ...options, filepath: file });
}

describe("routes", () => {
  test.each(endpoints.map(({ url, schema }) => [url, schema] as const))(
    "every field of %s has a limit",
    (_, schema) => {
      const fields = fieldLimits(schema);
      expect(fields.length).toBeGreaterThan(2);
      expect(fields.filter(({ limit }) => limit === null).map(({ path }) => path)).toEqual([]);
    },
  );

  test("a field without a limit is noticed, wherever it is", () => {
    const missing = (properties: Record<string, Schema>): string[] =>
      fieldLimits({ type: "object", properties, additionalProperties: false })
        .filter(({ limit }) => limit === null)
        .map(({ path }) => path);
    const text = { type: "string", maxLength: 9 };
    expect(missing({ a: text, b: { type: ["string", "null"] } })).toEqual(["b"]);
    expect(missing({ a: { type: "integer", minimum: 0 }, b: { type: "number", maximum: 3 } })).toEqual(["a", "b"]);
    expect(missing({ a: { type: "array", items: text } })).toEqual(["a"]);
    expect(missing({ a: { type: "array", maxItems: 3, items: { type: "string" } } })).toEqual(["a[]"]);
    expect(missing({ a: { type: "array", maxItems: 3 } })).toEqual(["a", "a[]"]);
    expect(missing({ a: { anyOf: [text, { type: "string" }] } })).toEqual(["a"]);
    expect(missing({ a: {} })).toEqual(["a"]);
    expect(missing({ a: { type: "object" } })).toEqual(["a"]);
    expect(missing({ a: { type: "object", additionalProperties: text, maxProperties: 3 } })).toEqual(["a"]);
    const item = { type: "object", properties: { c: { type: "string" } }, additionalProperties: false };
    expect(missing({ a: { type: "array", maxItems: 2, items: { allOf: [{ then: item }] } } })).toEqual(["a[]<item>.c"]);
  });

  test("a value beyond a limit is refused by the name of its field", () => {
    const check = new Map(endpoints.map(({ url, schema }) => [url, validator(schema)]));
    const message = { role: "user", content: "Hi" };
    const call = (extra: object) => ({ id: "a", function: { name: "a", arguments: "" }, ...extra });
    const long = "x".repeat(1025);
    const cases: [url: string, body: object, param: string][] = [
      ["/v1/completions", { prompt: "a", model: long }, "model"],
      ["/v1/completions", { prompt: "a", seed: 2 ** 65 }, "seed"],
      ["/v1/completions", { prompt: "a", stop: ["x".repeat(1001)] }, "stop.0"],
      ["/v1/completions", { prompt: "a", max_tokens: 2 ** 31 }, "max_tokens"],
      ["/v1/completions", { prompt: "a", repetition_penalty: 1e7 }, "repetition_penalty"],
      ["/v1/chat/completions", { messages: Array(2 ** 16 + 1).fill(message) }, "messages"],
      ["/v1/chat/completions", { messages: [{ ...message, name: long }] }, "messages.0.name"],
      ["/v1/chat/completions", { messages: [{ ...message, tool_calls: Array(1025).fill(call({})) }] }, "messages.0.tool_calls"], // prettier-ignore
      ["/v1/chat/completions", { messages: [{ ...message, tool_calls: [call({ index: -1 })] }] }, "messages.0.tool_calls.0.index"], // prettier-ignore
      ["/v1/responses", { input: Array(2 ** 16 + 1).fill(message) }, "input"],
      ["/v1/embeddings", { input: "a", user: long }, "user"],
      ["/v1/rerank", { query: "a", documents: ["a"], top_n: 2 ** 31 }, "top_n"],
    ];
    for (const [url, body, param] of cases) {
      const { error } = check.get(url)!(body);
      expect(error, param).toMatchObject({ status: 400, param });
      // Messages say what was given, shortened.
      expect(error!.message.length, param).toBeLessThan(400);
    }
    for (const [url, body] of [
      ["/v1/completions", { prompt: "a", model: long.slice(1), seed: -(2 ** 53) + 1, stop: ["x".repeat(1000)] }],
      ["/v1/completions", { prompt: "a", max_tokens: 2 ** 31 - 1 }],
      ["/v1/chat/completions", { messages: Array(2 ** 16).fill(message) }],
    ] as const)
      expect(check.get(url)!(body)).toEqual({ error: null, ignored: [] });
  });
});

test("every format of files has limits, and each of them is a number", () => {
  for (const [format, limits] of Object.entries(fileLimits)) {
    expect(limits.length, format).toBeGreaterThan(0);
    for (const { part, most, cost } of limits) {
      expect(Number.isSafeInteger(most) && most > 0, `${format}: ${part}`).toBe(true);
      expect(cost, `${format}: ${part}`).not.toBe("");
    }
  }
});

test("docs/limits.md is up to date (npm run limits)", async () => {
  const text = await page();
  if (process.env.HEED_WRITE_LIMITS === "1") writeFileSync(file, text);
  expect(readFileSync(file, "utf8")).toBe(text);
});
