// Clients that take nothing of an answer: each holds a connection, and what has been generated for it.
import type { FastifyInstance } from "fastify";
import { Socket } from "node:net";
import { checkNumber } from "../util/check.js";

/** Options of the sending of answers. */
export interface SendOptions {
  /**
   * Seconds for which a client may take nothing of what is sent to it. Its connection is then closed, and its requests
   * end. 0 means that there is no limit.
   *
   * @default 60
   */
  sendSeconds?: number;
}

/** Bytes that a client has taken, and the time at which it last took some. */
interface Progress {
  taken: number;
  at: number;
}

/** Closes the connections of clients that do not read. The routes must be added afterwards. */
export function closeStalled(app: FastifyInstance, { sendSeconds = 60 }: SendOptions): void {
  checkNumber("server", "sendSeconds", sendSeconds, 0, 86_400);
  if (sendSeconds === 0) return;
  const sockets = new Map<Socket, Progress>();
  app.addHook("onRequest", (request, _reply, done) => {
    const { socket } = request.raw;
    // What `app.inject` passes for one is none.
    if (socket instanceof Socket && !sockets.has(socket)) {
      sockets.set(socket, { taken: 0, at: performance.now() });
      socket.once("close", () => sockets.delete(socket));
    }
    done();
  });
  const most = 1000 * sendSeconds;
  const look = (): void => {
    const now = performance.now();
    for (const [socket, progress] of sockets) {
      // What is waiting to be written counts as written.
      const taken = socket.bytesWritten - socket.writableLength;
      if (socket.writableLength === 0 || taken !== progress.taken) sockets.set(socket, { taken, at: now });
      else if (now - progress.at >= most) {
        app.log.info({ seconds: sendSeconds }, "A client has taken nothing of its answer; its connection is closed.");
        socket.destroy();
      }
    }
  };
  const timer = setInterval(look, Math.min(10_000, Math.max(20, most / 4))).unref();
  app.addHook("onClose", (_app, done) => {
    clearInterval(timer);
    done();
  });
}
