// The fastify plugin: serves the endpoints over HTTP.
import type { FastifyBaseLogger, FastifyInstance, FastifyPluginAsync, FastifyReply, FastifyRequest } from "fastify";
import { Readable } from "node:stream";
import { checkBoolean, checkFunction, checkInteger } from "../util/check.js";
import { describe } from "../util/errors.js";
import { version } from "../util/version.js";
import { type AccessOptions, type Clients, open, restrictAccess } from "./access.js";
import { ApiError, apiErrorOf } from "./api-error.js";
import { limitBodies } from "./body.js";
import { lingerAfterAnswer } from "./connections.js";
import { Drain, type DrainOptions } from "./drain.js";
import { type Call, type Endpoint, EventStream, type RequestLimits } from "./endpoint.js";
import { endpoints } from "./endpoints.js";
import { EventBody } from "./event-body.js";
import { eventLines } from "./event-lines.js";
import { streamedJson } from "./streamed-json.js";
import { type Schema, validator } from "./json-schema.js";
import { serveMetrics } from "./metrics.js";
import { type RequestObserver, observers } from "./request-observer.js";
import { serveDocument } from "./openapi.js";
import { servePlayground } from "./playground.js";
import { refuseUnknown } from "./refusals.js";
import { ResponseStore } from "./response-store.js";
import { type ServableModel, ServedLanguageModel, ServedModels, type ServedSummary } from "./served-models.js";
import { serveStoredResponses } from "./stored-responses.js";
import type { ServedEngineOptions } from "./shared-memory.js";
import { closeStalled, type SendOptions } from "./stalls.js";
import { tracing } from "./tracing.js";
import { UnreadFields } from "./unread-fields.js";

/** Options of `heedServer`. */
export interface ServerOptions extends RequestLimits, AccessOptions, DrainOptions, SendOptions {
  /** The models by the names that clients give. They stay the caller's, who disposes them after the server's end. */
  models: Readonly<Record<string, ServableModel>>;
  /** Options of the engine of each model that generates. @default {} */
  engine?: ServedEngineOptions;
  /** Function that is called with what was chosen for each model, before the server takes requests. */
  onModels?: (models: readonly ServedSummary[]) => void;
  /** Largest number of bytes of a body. @default 4 MiB */
  bodyLimit?: number;
  /**
   * If true, the names of control tokens ("<|im_end|>") in messages and tools become these tokens. Whoever writes a
   * message can then end its turn, and speak in the name of the system.
   *
   * @default false
   */
  rawControlTokens?: boolean;
  /**
   * If true, a field of a body that heed does not know is an error. Otherwise it is ignored, named in the header
   * x-heed-ignored of the answer, and named once in the log.
   *
   * @default false
   */
  strict?: boolean;
  /**
   * Largest number of responses of /v1/responses that are kept in memory, so that further requests can go on from them; 0
   * keeps none. They have at most 64 MiB together, and each belongs to the API key with which it was asked for.
   *
   * @default 256
   */
  storedResponses?: number;
  /** If true, the route "/" is a page to try the models. The page itself needs no API key. @default true */
  playground?: boolean;
}

/**
 * Serves models over OpenAI's HTTP interface, as a plugin of fastify.
 *
 * @example
 * // This downloads a model.
 * const model = await load("Qwen/Qwen3-0.6B", { kind: "causal" });
 * const app = fastify();
 * await app.register(heedServer, { models: { qwen: model } });
 * await app.listen({ port: 8080 });
 *
 * @throws ERR_ARGUMENT or ERR_RANGE, when the plugin is loaded, if an option is invalid.
 */
export const heedServer: FastifyPluginAsync<ServerOptions> = async (app, options) => {
  const { models, engine, maxTokens, bodyLimit = 4 * 2 ** 20, playground = true, onModels } = options;
  const { rawControlTokens = false, strict = false, storedResponses = 256, truncate = false } = options;
  if (onModels !== undefined) checkFunction("server: onModels", onModels);
  checkInteger("server", "bodyLimit", bodyLimit, 1);
  if (maxTokens !== undefined) checkInteger("server", "maxTokens", maxTokens, 1);
  checkBoolean("server", "playground", playground);
  checkBoolean("server", "rawControlTokens", rawControlTokens);
  checkBoolean("server", "strict", strict);
  checkInteger("server", "storedResponses", storedResponses, 0);
  checkBoolean("server", "truncate", truncate);
  const served = new ServedModels(models, engine, { rawControlTokens });
  app.addHook("onClose", () => served.close());
  onModels?.(served.summaries);
  app.setErrorHandler(answerError);
  // Without a prefix, what has no route is the affair of the app.
  if (app.prefix !== "") refuseUnknown(app);
  limitBodies(app);
  closeStalled(app, options);
  app.addHook("onRequest", (request, reply, done) => {
    reply.header("x-request-id", request.id);
    done();
  });
  const unread = new UnreadFields();
  app.setValidatorCompiler(({ schema }) => {
    const check = validator(schema as Schema, strict);
    return (value: unknown) => {
      const { error, ignored } = check(value);
      if (error) return { error };
      unread.note(value as object, ignored);
      return { value };
    };
  });
  const clients = await restrictAccess(app, options);
  const responses = new ResponseStore(storedResponses);
  const drain = new Drain(app, options);
  const spans = await tracing();
  serveDocument(app);
  const observer = observers([serveMetrics(app, served), ...(spans ? [spans] : [])]);
  const context = { models: served, limits: { maxTokens, truncate }, observer, responses };
  for (const endpoint of endpoints) serve(app, endpoint, context, { drain, clients, bodyLimit, unread });
  serveStoredResponses(app, responses, clients.ownerOf);
  serveModels(app, served);
  if (playground) servePlayground(app);
  const alive = { schema: { summary: "Say that the process runs" }, config: { ...open, drained: true } };
  app.get("/health", alive, () => ({ status: "ok" }));
  app.get("/version", { schema: { summary: "Say the version of heed" } }, () => ({ version: version() }));
  app.get("/ready", { schema: { summary: "Say that the server takes requests" }, config: open }, async () => {
    if (await served.work()) return { status: "ready" };
    throw new ApiError(503, "A model does not compute: its steps fail.", { code: "not_ready", retryAfter: 10 });
  });
};

/** Parts of a server that all endpoints share. */
interface Service {
  readonly drain: Drain;
  readonly clients: Clients;
  readonly bodyLimit: number;
  readonly unread: UnreadFields;
}

function serve(
  app: FastifyInstance,
  endpoint: Endpoint,
  context: Omit<Call, "signal" | "tenant" | "owner" | "releases" | "warn">,
  { drain, clients, bodyLimit, unread }: Service,
): void {
  const { url, aliases = [], summary, schema } = endpoint;
  const handler = async (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> => {
    unread.tell(request, reply);
    const observer = observers([context.observer, logging(request.log)]);
    const releases: (() => void)[] = [];
    const warn = (text: string): void => request.log.warn(text);
    const own = { observer, releases, warn, ...clientOf(clients, request), signal: drain.signalFor(reply) };
    const answer = await endpoint.run(request.body, { ...context, ...own }).finally(() => {
      for (const release of releases) release();
    });
    if (!(answer instanceof EventStream)) return sendJson(reply, answer);
    const lines = eventLines(answer, (error) => log(request, error));
    // The stream asks for the next part of an answer only when the socket has taken the ones before.
    return reply
      .headers({ "content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache" })
      .header("x-accel-buffering", "no")
      .send(new EventBody(lines));
  };
  app.post(url, { schema: { summary, body: schema }, bodyLimit }, handler);
  for (const alias of aliases) app.post(alias, { schema: { hide: true, body: schema }, bodyLimit }, handler);
}

function clientOf({ tenantOf, ownerOf }: Clients, request: FastifyRequest): Pick<Call, "tenant" | "owner"> {
  return { tenant: tenantOf(request), owner: ownerOf(request) };
}

/** Sends an answer: at once if it is short, and otherwise in parts, of which the next is made when the socket has room. */
async function sendJson(reply: FastifyReply, answer: object): Promise<FastifyReply> {
  reply.type("application/json; charset=utf-8");
  const parts = streamedJson(answer);
  const [first, second] = [await parts.next(), await parts.next()];
  if (second.done) return reply.send(first.value);
  const all = async function* (): AsyncGenerator<string> {
    yield first.value!;
    yield second.value;
    yield* parts;
  };
  return reply.send(Readable.from(all(), { objectMode: false }));
}

function serveModels(app: FastifyInstance, models: ServedModels): void {
  const { created } = models;
  // Adapters come and go.
  const list = (): { id: string }[] =>
    models.all.map((model) => ({
      ...{ id: model.id, object: "model", created, owned_by: "heed" },
      ...(model instanceof ServedLanguageModel && model.parent && { parent: model.parent.id }),
      ...{ max_model_len: model.contextLength, routes: model.routes },
    }));
  const tokenizerInfo = { schema: { summary: "Describe the tokenizer of a model" } };
  app.get<{ Querystring: { model?: string } }>("/tokenizer_info", tokenizerInfo, ({ query: { model } }) => {
    const releases: (() => void)[] = [];
    try {
      return models.language(model, releases).tokenizerInfo;
    } finally {
      for (const release of releases) release();
    }
  });
  app.get("/v1/models", { schema: { summary: "List the models" } }, () => ({ object: "list", data: list() }));
  // Names of models may contain slashes.
  app.get<{ Params: { "*": string } }>("/v1/models/*", { schema: { summary: "Describe a model" } }, ({ params }) => {
    const found = list().find(({ id }) => id === params["*"]);
    if (found) return found;
    const text = `The model ${describe(params["*"])} does not exist.`;
    throw new ApiError(404, text, { param: "model", code: "model_not_found" });
  });
}

/** Answers with an error in OpenAI's form. */
export function answerError(cause: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const error = apiErrorOf(cause);
  log(request, cause, error);
  // Errors that come before the hooks have the header as well.
  reply.header("x-request-id", request.id);
  if (error.retryAfter !== null) reply.header("retry-after", String(error.retryAfter));
  const { bodyLimit } = request.routeOptions;
  lingerAfterAnswer(request.raw, { bytes: Math.max(2 ** 26, 8 * bodyLimit), idle: 5000, whole: 30_000 });
  return reply.status(error.status).send(error.body);
}

function log(request: FastifyRequest, cause: unknown, error = apiErrorOf(cause)): void {
  if (error.status >= 500 && error !== cause) request.log.error({ err: cause }, error.message);
  else request.log.info({ status: error.status, code: error.code }, error.message);
}

/** Returns an observer that writes a line to the log at the end of each request to a model. */
function logging(log: FastifyBaseLogger): RequestObserver {
  return {
    begin(operation, model) {
      const start = performance.now();
      let firstToken: number | null = null;
      return {
        tokens: () => void (firstToken ??= performance.now() - start),
        end: (outcome) => log.info({ operation, model, ...outcome, firstToken }, "request to a model"),
      };
    },
  };
}
