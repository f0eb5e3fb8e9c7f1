// A whole HTTP server: fastify with the plugin alone.
import fastify, { type FastifyInstance, type FastifyServerOptions } from "fastify";
import { randomUUID } from "node:crypto";
import type { SecureContextOptions } from "node:tls";
import { ApiError } from "./api-error.js";
import { closeIdleConnections } from "./connections.js";
import { answerError, heedServer, type ServerOptions } from "./plugin.js";

/** Options of `createServer`. */
export interface CreateServerOptions extends ServerOptions {
  /** Certificate and key, in PEM, of a server that speaks HTTPS. @default null (HTTP) */
  tls?: Pick<SecureContextOptions, "cert" | "key"> | null;
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
  const { tls = null, logger = false, ...others } = options;
  const app = fastify({
    ...(tls && { https: tls }),
    logger,
    genReqId: () => `req_${randomUUID()}`,
    requestIdHeader: "x-request-id",
    // The plugin refuses requests in OpenAI's form while the server shuts down.
    return503OnClosing: false,
    forceCloseConnections: "idle",
  }) as FastifyInstance;
  closeIdleConnections(app);
  app.setErrorHandler(answerError);
  app.setNotFoundHandler(({ method, url }) => {
    throw new ApiError(404, `There is no ${method} ${url}.`, { code: "unknown_url" });
  });
  await app.register(heedServer, others);
  await app.ready();
  return app;
}
