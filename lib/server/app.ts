// A whole HTTP server: fastify with the plugin alone.
import fastify, { type FastifyInstance, type FastifyServerOptions } from "fastify";
import { randomUUID } from "node:crypto";
import { isIP } from "node:net";
import type { SecureContextOptions } from "node:tls";
import { checkInteger, checkNumber } from "../util/check.js";
import { describe, HeedError } from "../util/errors.js";
import { closeIdleConnections } from "./connections.js";
import { guardKeyless, type HostOptions } from "./exposure.js";
import { standardLogOutput } from "./log-output.js";
import { answerError, heedServer, type ServerOptions } from "./plugin.js";
import { Refusals, refuseUnknown } from "./refusals.js";

/** Options of `createServer`. */
export interface CreateServerOptions extends ServerOptions, HostOptions {
  /** Certificate and key, in PEM, of a server that speaks HTTPS. @default null (HTTP) */
  tls?: Pick<SecureContextOptions, "cert" | "key"> | null;
  /**
   * Seconds in which a request must have arrived, with its whole body; otherwise it is answered with the status 408 and
   * its connection is closed. 0 means that there is no limit.
   *
   * @default 300
   */
  receiveSeconds?: number;
  /** Largest number of connections at the same time. A further one is closed at once. @default 1024 */
  maxConnections?: number;
  /**
   * Proxies whose header "X-Forwarded-For" says from which address a request comes: their number, or their addresses and
   * subnets; true stands for one proxy. Limits of requests count these addresses. Without proxies, clients could write
   * the header themselves.
   *
   * @default false
   */
  trustProxy?: boolean | number | string | readonly string[];
  /**
   * Options of the log, or false. Unless they name another output, the log goes to the standard output; while that cannot
   * be written, for instance because the disk is full, its lines wait.
   *
   * @default false
   */
  logger?: FastifyServerOptions["logger"];
}

/**
 * Returns a server of these models alone. Call its `listen` to start it, and its `close` to stop it: that refuses new
 * requests and resolves when those that run are done.
 *
 * @example
 * // This downloads a model.
 * const model = await load("Qwen/Qwen3-0.6B", { kind: "causal" });
 * const server = await createServer({ models: { qwen: model } });
 * console.log(await server.listen({ port: 8080 }));
 *
 * @throws ERR_ARGUMENT or ERR_RANGE if an option is invalid.
 */
export async function createServer(options: CreateServerOptions): Promise<FastifyInstance> {
  const { tls = null, logger = false, receiveSeconds = 300, ...rest } = options;
  const { maxConnections = 1024, trustProxy = false, allowedHosts, ...others } = rest;
  checkInteger("server", "maxConnections", maxConnections, 1);
  checkNumber("server", "receiveSeconds", receiveSeconds, 0, 86_400);
  const requestTimeout = Math.ceil(receiveSeconds * 1000);
  // Node.js looks at its connections as often as this says.
  const connectionsCheckingInterval = Math.min(30_000, Math.max(50, requestTimeout / 4));
  const refusals = new Refusals();
  const http = { connectionsCheckingInterval, requireHostHeader: false };
  const app = fastify({
    trustProxy: proxies(trustProxy),
    ...(tls ? { https: { ...tls, ...http } } : { http }),
    // Base addresses with a slash at their end make "//v1/…".
    routerOptions: { ignoreDuplicateSlashes: true, ignoreTrailingSlash: true },
    requestTimeout,
    clientErrorHandler: refusals.onClientError,
    // What is wrong with an address is found before the hooks of routes run.
    frameworkErrors: (error, request, reply) => void answerError(error, request, reply),
    logger: withOutput(logger),
    requestIdHeader: false,
    genReqId: ({ headers }) => ownId(headers["x-request-id"]) ?? `req_${randomUUID()}`,
    // The plugin refuses requests in OpenAI's form while the server shuts down.
    return503OnClosing: false,
    forceCloseConnections: "idle",
  }) as FastifyInstance;
  // Node.js takes the longer of the two for the whole request.
  if (requestTimeout > 0) app.server.headersTimeout = Math.min(60_000, requestTimeout);
  app.server.maxConnections = maxConnections;
  closeIdleConnections(app);
  refusals.watch(app);
  if (!others.apiKeys) guardKeyless(app, { allowedHosts });
  app.setErrorHandler(answerError);
  refuseUnknown(app);
  await app.register(heedServer, others);
  await app.ready();
  return app;
}

/** Returns the options of a log, which has an output that never fails unless they name another one. */
function withOutput(logger: FastifyServerOptions["logger"]): NonNullable<FastifyServerOptions["logger"]> {
  if (!logger) return false;
  const given = logger === true ? {} : logger;
  const isElsewhere = ["stream", "file", "transport"].some((name) => name in given);
  return isElsewhere ? given : { ...given, stream: standardLogOutput() };
}

/** Returns the id that a client gives to its request, if it is one that each line of the log may have. */
function ownId(id: string | string[] | undefined): string | null {
  return typeof id === "string" && /^[\x21-\x7e]{1,128}$/.test(id) ? id : null;
}

/** Returns fastify's option for the proxies that are trusted. */
function proxies(given: unknown): boolean | string[] | ((address: string, hop: number) => boolean) {
  if (given === false) return false;
  const hops = given === true ? 1 : given;
  if (typeof hops === "number" && Number.isSafeInteger(hops) && hops >= 1) return (_address, hop) => hop < hops;
  const list = (typeof given === "string" ? given.split(",") : Array.isArray(given) ? given : []).map((one: unknown) =>
    typeof one === "string" ? one.trim() : "",
  );
  if (list.length > 0 && list.every(isSubnet)) return list;
  throw new HeedError(
    "ERR_ARGUMENT",
    `server: expected trustProxy to be true, a number of proxies, or addresses and subnets such as 10.0.0.0/8, got ${describe(given)}`,
  );
}

/** Returns true if a text is an address, a subnet, or the name that fastify has for one. */
function isSubnet(text: string): boolean {
  if (["loopback", "linklocal", "uniquelocal"].includes(text)) return true;
  const [address = "", bits, ...more] = text.split("/");
  const most = { 4: 32, 6: 128 }[isIP(address)];
  return (
    most !== undefined && more.length === 0 && (bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= most))
  );
}
