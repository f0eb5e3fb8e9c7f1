// Answers to what reaches no route: requests that Node.js or fastify refuse before, and addresses that have no route. They
// have OpenAI's form too, so that a client finds the same fields in every error.
import type { FastifyInstance } from "fastify";
import { randomUUID } from "node:crypto";
import { type IncomingMessage, type ServerResponse, STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";
import { describe, oneOf, shortened } from "../util/errors.js";
import { ApiError } from "./api-error.js";
import { endConnection } from "./connections.js";

/** A request and its answer. */
interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
}

/** State of a connection. */
interface Connection {
  /** Exchanges whose answers are not complete. */
  readonly open: Set<Exchange>;
  /** The latest exchange that began. */
  last: Exchange;
}

/** An error of Node.js about what a client has sent. */
interface ClientError extends Error {
  code?: string;
  /** Reason in the words of the parser. */
  reason?: string;
}

/** Answers a client's requests that Node.js cannot read. */
export class Refusals {
  readonly #connections = new WeakMap<Duplex, Connection>();
  readonly #refused = new WeakSet<Duplex>();
  #app: FastifyInstance | null = null;

  /** Watches the server of an app, which must have been made with `onClientError` as its handler. */
  watch(app: FastifyInstance): void {
    this.#app = app;
    app.server.on("request", (request: IncomingMessage, response: ServerResponse) => {
      const exchange = { request, response };
      const known = this.#connections.get(request.socket);
      const open = known?.open ?? new Set();
      this.#connections.set(request.socket, { open: open.add(exchange), last: exchange });
      response.once("close", () => open.delete(exchange));
    });
    app.server.on("checkExpectation", ({ headers }: IncomingMessage, response: ServerResponse) => {
      const text = `Expected the header "Expect" to be "100-continue", got ${describe(headers.expect)}.`;
      const error = new ApiError(417, text, { code: "expectation_failed" });
      const body = JSON.stringify(error.body);
      response.writeHead(error.status, headersOf(body, this.#report(error))).end(body);
    });
    app.server.on("connect", (_request: IncomingMessage, socket: Duplex) => {
      this.#refuse(
        socket,
        new ApiError(405, "The server is no proxy: expected another method, got CONNECT.", {
          code: "method_not_allowed",
        }),
      );
    });
    // Node.js would answer without a body.
    app.addHook("onRequest", ({ raw }, _reply, done) => {
      const missing = raw.httpVersion === "1.1" && raw.headers.host === undefined;
      done(missing ? new ApiError(400, 'Expected the header "Host", got none.', { code: "missing_host" }) : undefined);
    });
  }

  /** Answers a client whose request cannot be read or does not arrive, and closes the connection. */
  readonly onClientError = (error: ClientError, socket: Duplex): void => {
    const refusal = refusalOf(error);
    if (refusal && this.#mayAnswer(socket)) this.#refuse(socket, refusal);
    else if (!this.#refused.has(socket)) socket.destroy();
  };

  /** Returns true if the client takes what is written now for the answer to what it has sent last. */
  #mayAnswer(socket: Duplex): boolean {
    if (!socket.writable || this.#refused.has(socket)) return false;
    const connection = this.#connections.get(socket);
    if (!connection) return true;
    const { open, last } = connection;
    const answered = !last.request.complete && last.response.headersSent;
    // A request that has arrived as a whole waits for another answer.
    return !answered && ![...open].some(({ request }) => request.complete);
  }

  #refuse(socket: Duplex, error: ApiError): void {
    this.#refused.add(socket);
    const body = JSON.stringify(error.body);
    const headers = Object.entries(headersOf(body, this.#report(error))).map(
      ([name, value]) => `${name}: ${value}\r\n`,
    );
    socket.on("error", () => undefined);
    endConnection(socket, `HTTP/1.1 ${error.status} ${STATUS_CODES[error.status]}\r\n${headers.join("")}\r\n${body}`);
  }

  /** Writes an error to the log, and returns the id that the answer and the log have in common. */
  #report({ status, code, message }: ApiError): string {
    const reqId = `req_${randomUUID()}`;
    this.#app?.log.info({ reqId, status, code }, message);
    return reqId;
  }
}

function headersOf(body: string, id: string): Record<string, string> {
  return {
    "content-type": "application/json; charset=utf-8",
    "content-length": String(Buffer.byteLength(body)),
    "x-request-id": id,
    date: new Date().toUTCString(),
    connection: "close",
  };
}

/** Returns the error that the client gets; null if it has left. */
function refusalOf({ code = "", reason, message }: ClientError): ApiError | null {
  if (code === "ERR_HTTP_REQUEST_TIMEOUT")
    return new ApiError(408, "The request has not arrived as a whole in time.", { code: "request_timeout" });
  if (code === "HPE_HEADER_OVERFLOW")
    return new ApiError(431, "Expected a shorter address and shorter headers.", { code: "headers_too_large" });
  if (code === "HPE_CHUNK_EXTENSIONS_OVERFLOW")
    return new ApiError(413, "Expected a body without long chunk extensions.", { code: "body_too_large" });
  if (!code.startsWith("HPE_")) return null;
  const text = `Expected a request of HTTP/1.1, got a malformed one: ${reason ?? message}.`;
  return new ApiError(400, text, { code: "malformed_request" });
}

/** Makes an app answer what none of its routes takes. Its routes must be added afterwards. */
export function refuseUnknown(app: FastifyInstance): void {
  const methods = new Map<string, Set<string>>();
  app.addHook("onRoute", ({ method, url }) => {
    const known = methods.get(url) ?? new Set();
    for (const one of [method].flat()) known.add(one);
    methods.set(url, known);
  });
  app.setNotFoundHandler(({ method, url }, reply) => {
    const path = url.replace(/[?#].*$/s, "");
    const found = [...methods].find(([route]) =>
      route.endsWith("/*") ? path.startsWith(route.slice(0, -1)) : route === path,
    );
    if (!found) throw new ApiError(404, `There is no ${method} ${shortened(url, 200)}.`, { code: "unknown_url" });
    const allowed = [...found[1]];
    reply.header("allow", allowed.join(", "));
    throw new ApiError(405, `${shortened(path, 200)}: expected ${oneOf(allowed)}, got ${method}.`, {
      code: "method_not_allowed",
    });
  });
}
