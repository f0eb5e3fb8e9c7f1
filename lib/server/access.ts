// Who may ask, and how often: API keys, requests a minute, and pages of other origins.
import cors from "@fastify/cors";
import rateLimit from "@fastify/rate-limit";
import type { FastifyInstance, FastifyRequest } from "fastify";
import { checkBoolean, checkInteger } from "../util/check.js";
import { ApiError } from "./api-error.js";
import { ApiKeys, givenKeys } from "./api-keys.js";

/** Options that say who may ask, and how often. */
export interface AccessOptions {
  /** Keys of which a client must give one (`Authorization: Bearer …` or `X-Api-Key`). @default null (none is needed) */
  apiKeys?: readonly string[] | null;
  /**
   * If true, requests with different keys share the prefix cache: a prompt that begins like one of another key then takes
   * less time, by which the clients can learn of each other's prompts.
   *
   * @default false
   */
  sharePrefixCache?: boolean;
  /** Largest number of requests in a minute for each key, or for each address if there are no keys. @default none */
  requestsPerMinute?: number | undefined;
  /** Origins whose pages may ask, such as "https://example.org"; "*" stands for all. @default [] (none) */
  corsOrigins?: readonly string[];
}

/** Headers of answers that pages of other origins may read. */
const exposed = ["x-request-id", "retry-after", "x-heed-ignored", "www-authenticate"];

/** Configuration of routes that everybody may ask at any time. */
export const open = { open: true, rateLimit: false };

/** Returns whose a request is; null if all requests are the same client's. */
export type TenantOf = (request: FastifyRequest) => string | null;

/** Functions that tell clients apart by their keys. */
export interface Clients {
  /** Returns with whom a request shares cached beginnings. */
  readonly tenantOf: TenantOf;
  /** Returns whose the stored responses of a request are. */
  readonly ownerOf: TenantOf;
}

/** Restricts the routes that are added afterwards. Resolves to functions that tell clients apart by their keys. */
export async function restrictAccess(app: FastifyInstance, options: AccessOptions): Promise<Clients> {
  const { apiKeys = null, requestsPerMinute: max, corsOrigins = [], sharePrefixCache = false } = options;
  checkBoolean("server", "sharePrefixCache", sharePrefixCache);
  const origin = corsOrigins.includes("*") ? "*" : [...corsOrigins];
  // Before the keys: a browser asks without a key if it may ask with one.
  if (corsOrigins.length > 0)
    await app.register(cors, { origin, methods: ["GET", "POST", "DELETE"], exposedHeaders: [...exposed] });
  const keys = apiKeys && new ApiKeys(apiKeys);
  const keyOf = ({ headers }: FastifyRequest): number => keys?.find(givenKeys(headers)) ?? -1;
  if (keys)
    app.addHook("onRequest", (request, reply, done) => {
      const { open } = request.routeOptions.config as { open?: boolean };
      if (open || keyOf(request) !== -1) return done();
      reply.header("www-authenticate", "Bearer");
      done(refused(request));
    });
  const tenantOf: TenantOf = (request) => (keys && !sharePrefixCache ? `key ${keyOf(request)}` : null);
  const ownerOf: TenantOf = (request) => (keys ? `key ${keyOf(request)}` : null);
  const clients = { tenantOf, ownerOf };
  if (max === undefined) return clients;
  checkInteger("server", "requestsPerMinute", max, 1);
  await app.register(rateLimit, {
    ...{ max, timeWindow: 60_000 },
    keyGenerator: (request) => (keys ? `key ${keyOf(request)}` : request.ip),
    errorResponseBuilder: (_request, { ttl }) => {
      const text = `Expected at most ${max} requests a minute, got more. Try again later.`;
      return new ApiError(429, text, { code: "rate_limit_exceeded", retryAfter: Math.ceil(ttl / 1000) });
    },
  });
  return clients;
}

function refused({ headers }: FastifyRequest): ApiError {
  const names = ["authorization", "x-api-key", "api-key"];
  const given = names.every((name) => headers[name] === undefined) ? "got none" : "got another one";
  const text = `Expected the header "Authorization: Bearer KEY" with one of the server's API keys, ${given}.`;
  return new ApiError(401, text, { code: "invalid_api_key" });
}
