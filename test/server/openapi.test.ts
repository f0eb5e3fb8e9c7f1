/** The OpenAPI document is the one that @fastify/swagger, a program of others, makes of the same routes. */
import swagger from "@fastify/swagger";
import { fastify } from "fastify";
import { expect, onTestFinished, test } from "vitest";
import { heedServer } from "../../lib/server/index.js";
import { version } from "../../lib/util/version.js";
import { chatModel } from "./support.js";

interface Document {
  openapi: string;
  info: object;
  paths: Record<string, Record<string, { responses: object }>>;
}

/** Brings a document into the form of @fastify/swagger, which writes constants as choices of one; texts about answers differ. */
function comparable({ paths }: Document): unknown {
  const text = JSON.stringify(paths, (key, value: unknown) => (key === "responses" ? null : value));
  return JSON.parse(text, (_key, value: Record<string, unknown> | null) => {
    if (typeof value !== "object" || value === null || !("const" in value)) return value;
    const { const: only, ...rest } = value;
    return { ...rest, enum: [only] };
  });
}

test.each(["", "/models"])("the document with the prefix %j", async (prefix) => {
  using model = chatModel();
  const app = fastify();
  onTestFinished(() => app.close());
  await app.register(swagger, { openapi: { openapi: "3.1.0" } });
  await app.register(heedServer, { models: { tiny: model }, prefix });
  await app.ready();
  const own = (await app.inject(`${prefix}/openapi.json`)).json<Document>();
  expect([own.openapi, own.info]).toEqual(["3.1.0", expect.objectContaining({ title: "heed", version: version() })]);
  expect(Object.keys(own.paths)).toEqual(
    expect.arrayContaining(
      ["/v1/chat/completions", "/v1/responses/{id}/input_items", "/v1/models/{*}"].map((path) => prefix + path),
    ),
  );
  expect(Object.keys(own.paths).filter((path) => /metrics|openapi/.test(path))).toEqual([]);
  expect(comparable(own)).toEqual(comparable(app.swagger() as unknown as Document));
});
