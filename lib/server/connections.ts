import type { FastifyInstance } from "fastify";
import type { IncomingMessage } from "node:http";
import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { Server as TlsServer } from "node:tls";

/** Milliseconds after which connections that are no longer needed are closed, whatever their clients do. */
export const patience = 500;

/**
 * Ends a connection, with a last text if there is one. It is not closed at once, because a client that is still sending
 * would lose what it has not read.
 */
export function endConnection(socket: Duplex, text?: string): void {
  socket.end(text);
  setTimeout(() => socket.destroy(), patience).unref();
}

/** Bounds of what is read of a body after its request has been answered. */
export interface LingeringBounds {
  /** Largest number of bytes. */
  readonly bytes: number;
  /** Milliseconds in which the client must go on. */
  readonly idle: number;
  /** Milliseconds in which the client must be done. */
  readonly whole: number;
}

/**
 * Makes the connection of a request that is answered before its body has come take the rest of the body, which is thrown
 * away, up to these bounds. Node.js would close a connection that ends with the answer at once: a client that is still
 * sending is then told that it was reset, often before it has read the answer.
 */
export function lingerAfterAnswer(request: IncomingMessage, { bytes, idle, whole }: LingeringBounds): void {
  const { socket } = request;
  // What `app.inject` passes for one is none.
  if (request.complete || !(socket instanceof Socket)) return;
  let left = bytes;
  // Nobody else needs the body any more.
  request.removeAllListeners("data").on("data", (part: Buffer | string) => {
    left -= part.length;
    if (left < 0) socket.destroy();
  });
  const close = socket.destroySoon.bind(socket);
  // Node.js calls this when the last answer of a connection has been written.
  socket.destroySoon = () => {
    if (request.complete || request.destroyed) return close();
    // The client learns that nothing follows the answer, and may still send.
    socket.end();
    const destroy = (): void => void socket.destroy();
    const waiting = setTimeout(destroy, idle).unref();
    const deadline = setTimeout(destroy, whole).unref();
    request.on("data", () => waiting.refresh()).on("end", close);
    socket.once("close", () => {
      clearTimeout(waiting);
      clearTimeout(deadline);
    });
  };
}

/** Calls `listener` with each new connection of a server. */
export function onConnection(app: FastifyInstance, listener: (socket: Socket) => void): void {
  app.server.on(app.server instanceof TlsServer ? "secureConnection" : "connection", listener);
}

// Node.js closes only those connections that have had a request before, and proxies and browsers open some in advance,
// which would keep a server from closing.
/** Makes a server close its idle connections when it is closed. All of its routes must be added afterwards. */
export function closeIdleConnections(app: FastifyInstance): void {
  const idle = new Set<Socket>();
  onConnection(app, (socket) => {
    idle.add(socket);
    socket.once("close", () => idle.delete(socket));
  });
  app.addHook("onRequest", (request, _reply, done) => {
    idle.delete(request.raw.socket);
    done();
  });
  app.addHook("onResponse", (request, _reply, done) => {
    const { socket } = request.raw;
    // What `app.inject` passes for one is none.
    if (socket instanceof Socket && !socket.destroyed) idle.add(socket);
    done();
  });
  app.addHook("preClose", (done) => {
    // A request may be on its way. It is told that the server is shutting down, which is better than a lost connection.
    setTimeout(() => {
      for (const socket of idle) socket.destroy();
    }, 250);
    done();
  });
}
