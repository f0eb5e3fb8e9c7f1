import type { FastifyInstance } from "fastify";
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
