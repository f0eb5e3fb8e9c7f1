/**
 * The tables of docs/guides/server.md are made from the schemas of the routes, the types of OpenAI's client, and the list of
 * refused requests: `npm run limits` writes them.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import * as prettier from "prettier";
import { expect, test } from "vitest";
import { endpoints } from "../../lib/server/endpoints.js";
import { refusedRequests } from "../server/refused-requests.js";
import type { Schema } from "./field-limits.js";
import { table } from "./limits-text.js";

const file = fileURLToPath(new URL("../../docs/guides/server.md", import.meta.url));

/** Routes of OpenAI, with the file and the name of the type of their bodies in OpenAI's client. */
const routes = [
  ["Chat", "/v1/chat/completions", "chat/completions/completions", "ChatCompletionCreateParamsBase"],
  ["Completions", "/v1/completions", "completions", "CompletionCreateParamsBase"],
  ["Responses", "/v1/responses", "responses/responses", "ResponseCreateParamsBase"],
  ["Embeddings", "/v1/embeddings", "embeddings", "EmbeddingCreateParams"],
] as const;

/** Returns the fields of a type of OpenAI's client. */
function fieldsOfOpenAI(source: string, type: string): string[] {
  const url = new URL(`../../node_modules/openai/resources/${source}.d.ts`, import.meta.url);
  const text = readFileSync(fileURLToPath(url), "utf8");
  const body = new RegExp(`export interface ${type} \\{\n([\\s\\S]*?)\n\\}`).exec(text)![1]!;
  return [...body.matchAll(/^ {4}(\w+)\??:/gm)].map(([, name]) => name!);
}

function propertiesOf(url: string): Readonly<Record<string, Schema>> {
  return endpoints.find((endpoint) => endpoint.url === url)!.schema.properties as Record<string, Schema>;
}

/** Returns what happens to a field: it is taken, it has no effect, it is refused, or it is ignored as any unknown field. */
function effectOf(schema: Schema | undefined): string {
  if (!schema) return "ignored";
  if (schema["x-unsupported"]) return "refused";
  return schema["x-idle"] ? "no effect" : "taken";
}

const columns = routes.map(([name, url, source, type]) => {
  return { name, properties: propertiesOf(url), openai: fieldsOfOpenAI(source, type) };
});

function rowsOf(names: readonly string[], of: (column: (typeof columns)[number], name: string) => boolean): string[][] {
  return names.map((name) => [
    `\`${name}\``,
    ...columns.map((column) => (of(column, name) ? effectOf(column.properties[name]) : "")),
  ]);
}

const unique = (names: readonly string[]): string[] => [...new Set(names)].sort();
const theirs = unique(columns.flatMap(({ openai }) => openai));
const head = ["Field", ...columns.map(({ name }) => name)];

function tables(): Record<string, string> {
  const isOwn = ({ properties, openai }: (typeof columns)[number], name: string): boolean =>
    Object.hasOwn(properties, name) && !openai.includes(name);
  const ours = unique(
    columns.flatMap((column) => Object.keys(column.properties).filter((name) => isOwn(column, name))),
  );
  return {
    fields: table(
      head,
      rowsOf(theirs, ({ openai }, name) => openai.includes(name)),
    ),
    "further fields": table(head, rowsOf(ours, isOwn)),
    refusals: table(
      ["Request", "Answer", "Reason"],
      refusedRequests.map(({ request, answer: [status, code], reason }) => [request, `${status} \`${code}\``, reason]),
    ),
  };
}

/** Returns the page with its tables as they have to be. */
async function page(): Promise<string> {
  const filled = Object.entries(tables()).reduce(
    (text, [name, content]) => {
      const [begin, end] = [`<!-- ${name}: npm run limits -->`, `<!-- end of ${name} -->`];
      const [from, to] = [text.indexOf(begin), text.indexOf(end)];
      if (from < 0 || to < from) throw new Error(`no place for the table of ${name}`);
      return `${text.slice(0, from + begin.length)}\n\n${content}\n\n${text.slice(to)}`;
    },
    readFileSync(file, "utf8"),
  );
  return prettier.format(filled, { ...(await prettier.resolveConfig(file)), filepath: file });
}

test("the fields of OpenAI's client are found", () => {
  const numbers = columns.map(({ openai }) => openai.length);
  expect(numbers.every((count, i) => count >= [30, 15, 20, 5][i]!)).toBe(true);
  expect(theirs).toEqual(expect.arrayContaining(["messages", "echo", "previous_response_id", "dimensions"]));
});

test("no field of OpenAI's is unknown", () => {
  const unknown = columns.flatMap(({ name, openai, properties }) =>
    openai.filter((field) => !Object.hasOwn(properties, field)).map((field) => `${name}: ${field}`),
  );
  expect(unknown).toEqual([]);
});

test("the tables of docs/guides/server.md are up to date (npm run limits)", async () => {
  const text = await page();
  if (process.env.HEED_WRITE_LIMITS === "1") writeFileSync(file, text);
  expect(readFileSync(file, "utf8")).toBe(text);
});
