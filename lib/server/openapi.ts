// GET /openapi.json: the OpenAPI document of the server's routes (https://spec.openapis.org/oas/v3.1.1).
import type { FastifyInstance, FastifySchema } from "fastify";
import { version } from "../util/version.js";
import type { Schema } from "./json-schema.js";

declare module "fastify" {
  interface FastifySchema {
    /** Text about a route. */
    summary?: string;
    /** If true, the route stands in no document. */
    hide?: boolean;
  }
}

/** Serves the document of all routes of the app that are added after this call and are not hidden. */
export function serveDocument(app: FastifyInstance): void {
  const info = { title: "heed", description: "OpenAI's interface to models of heed", version: version() };
  const paths: Record<string, Record<string, object>> = {};
  app.addHook("onRoute", ({ method, url, schema = {} }) => {
    const { hide = false, ...described } = schema;
    if (hide || method === "HEAD") return;
    const path = url.replace(/:(\w+)/g, "{$1}").replace(/\*$/, "{*}");
    for (const name of [method].flat()) (paths[path] ??= {})[name.toLowerCase()] = operation(path, described);
  });
  app.get("/openapi.json", { schema: { hide: true } }, () => ({ openapi: "3.1.0", info, paths }));
}

function operation(path: string, { summary, body, querystring }: FastifySchema): object {
  const { properties = {} } = (querystring ?? {}) as { properties?: Readonly<Record<string, Schema>> };
  const parameters = [
    ...Object.entries(properties).map(([name, schema]) => ({ in: "query", name, required: false, schema })),
    ...[...path.matchAll(/\{(.*?)\}/g)].map(([, name]) => ({
      ...{ in: "path", name, required: true, schema: { type: "string" } },
    })),
  ];
  return {
    summary,
    ...(parameters.length > 0 && { parameters }),
    ...(body !== undefined && { requestBody: { required: true, content: { "application/json": { schema: body } } } }),
    responses: { 200: { description: "The answer" } },
  };
}
