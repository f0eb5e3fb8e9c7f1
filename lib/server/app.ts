// A whole HTTP server: fastify with the plugin alone.
import fastify, { type FastifyInstance, type FastifyServerOptions } from "fastify";
import { randomUUID } from "node:crypto";
import type { SecureContextOptions } from "node:tls";
import { checkNumber } from "../check.js";
import { closeIdleConnections } from "./connections.js";
import { answerError, heedServer, type ServerOptions } from "./plugin.js";
import { Refusals, refuseUnknown } from "./refusals.js";

/** Options of `createServer`. */
export interface CreateServerOptions extends ServerOptions {
  /** Certificate and key, in PEM, of a server that speaks HTTPS. @default null (HTTP) */
  tls?: Pick<SecureContextOptions, "cert" | "key"> | null;
  /**
   * Seconds in which a request must have arrived, with its whole body; otherwise it is answered with the status 408 and
   * its connection is closed. 0 means that there is no limit.
   *
   * @default 300
   */
  receiveSeconds?: number;
  /** Options of the log, or false. @default false */
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
  const { tls = null, logger = false, receiveSeconds = 300, ...others } = options;
  checkNumber("server", "receiveSeconds", receiveSeconds, 0, 86_400);
  const requestTimeout = Math.ceil(receiveSeconds * 1000);
  // Node.js looks at its connections as often as this says.
  const connectionsCheckingInterval = Math.min(30_000, Math.max(50, requestTimeout / 4));
  const refusals = new Refusals();
  const http = { connectionsCheckingInterval, requireHostHeader: false };
  const app = fastify({
    ...(tls ? { https: { ...tls, ...http } } : { http }),
    requestTimeout,
    clientErrorHandler: refusals.onClientError,
    // What is wrong with an address is found before the hooks of routes run.
    frameworkErrors: (error, request, reply) => void answerError(error, request, reply),
    logger,
    requestIdHeader: false,
    genReqId: ({ headers }) => ownId(headers["x-request-id"]) ?? `req_${randomUUID()}`,
    // The plugin refuses requests in OpenAI's form while the server shuts down.
    return503OnClosing: false,
    forceCloseConnections: "idle",
  }) as FastifyInstance;
  // Node.js takes the longer of the two for the whole request.
  if (requestTimeout > 0) app.server.headersTimeout = Math.min(60_000, requestTimeout);
  closeIdleConnections(app);
  refusals.watch(app);
  app.setErrorHandler(answerError);
  refuseUnknown(app);
  await app.register(heedServer, others);
  await app.ready();
  return app;
}

/** Returns the id that a client gives to its request, if it is one that each line of the log may have. */
function ownId(id: string | string[] | undefined): string | null {
  return typeof id === "string" && /^[\x21-\x7e]{1,128}$/.test(id) ? id : null;
}
