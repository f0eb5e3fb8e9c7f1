// The end of a server: new requests are refused, and those that run have some time to finish.
import type { FastifyInstance, FastifyReply } from "fastify";
import { setMaxListeners } from "node:events";
import { Socket } from "node:net";
import { checkNumber } from "../util/check.js";
import { ApiError } from "./api-error.js";
import { endConnection, onConnection, patience } from "./connections.js";

/** Options of the end of a server. */
export interface DrainOptions {
  /** Seconds that requests have to finish when the server is closed. They are then aborted. @default 30 */
  drainSeconds?: number;
}

/** Requests of a server that run. */
export class Drain {
  readonly #running = new Map<FastifyReply, AbortController>();
  #draining = false;

  /** Makes the server drain when it is closed. */
  constructor(app: FastifyInstance, { drainSeconds = 30 }: DrainOptions) {
    checkNumber("server", "drainSeconds", drainSeconds, 0, 86_400);
    let deadline: NodeJS.Timeout | undefined;
    onConnection(app, (socket) => socket.once("close", () => process.nextTick(() => this.#leave(socket))));
    app.addHook("onRequest", (request, _reply, done) => {
      // A probe may still ask if the process runs.
      const { drained } = request.routeOptions.config as { drained?: boolean };
      done(this.#draining && !drained ? shuttingDown() : undefined);
    });
    // A connection that stays open would keep the server from closing. A client may leave its half of it open, also
    // because it is still sending what nobody reads.
    app.addHook("onResponse", (request, _reply, done) => {
      const { socket } = request.raw;
      // What `app.inject` passes for one is none.
      if (this.#draining && socket instanceof Socket) endConnection(socket);
      done();
    });
    app.addHook("preClose", (done) => {
      this.#draining = true;
      deadline = setTimeout(() => this.#abort(), drainSeconds * 1000);
      done();
    });
    app.addHook("onClose", (_app, done) => {
      clearTimeout(deadline);
      done();
    });
  }

  /** Returns the signal of a request, which is aborted if the client leaves or the server cannot wait any longer. */
  signalFor(reply: FastifyReply): AbortSignal {
    const controller = new AbortController();
    // Each answer to a request listens to it.
    setMaxListeners(0, controller.signal);
    const left = (): void => {
      controller.abort(new ApiError(499, "The client has closed the connection.", { code: "client_closed" }));
    };
    // The client may have left while its body was checked.
    if (reply.raw.destroyed) left();
    else {
      this.#running.set(reply, controller);
      reply.raw.on("close", () => {
        this.#running.delete(reply);
        // The answer may be complete.
        if (!reply.raw.writableFinished) left();
      });
    }
    return controller.signal;
  }

  /** Ends the answers that wait for those before them on a connection, which has been closed. */
  #leave(socket: Socket): void {
    // Node.js tells only the first of them.
    for (const { raw } of [...this.#running.keys()].filter((reply) => reply.request.raw.socket === socket)) {
      if (raw.destroyed) continue;
      raw.destroy();
      raw.emit("close");
    }
  }

  #abort(): void {
    for (const controller of this.#running.values()) controller.abort(shuttingDown());
    // A client that does not read would not notice.
    setTimeout(() => {
      for (const reply of this.#running.keys()) reply.raw.destroy();
    }, patience).unref();
  }
}

function shuttingDown(): ApiError {
  return new ApiError(503, "The server is shutting down.", { code: "shutting_down", retryAfter: 1 });
}
