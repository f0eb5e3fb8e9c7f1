// A process with one server, which does what its parent asks for (remote.ts).
import { setThreads } from "heed";
import { settled } from "../memory.js";
import { drive, type Load, type Server } from "./drive.js";
import type { Figures } from "./figures.js";
import type { Finding } from "./finding.js";
import { HeedServer, type ServerOptions } from "./heed-server.js";
import { LlamaServer, llamaVersion } from "./llama-server.js";
import type { ServingRequest } from "./load.js";
import { play, type Scenario } from "./scenarios.js";

/** Names of the contestants. */
export type ContestantName = "heed" | "llama.cpp";

/** Argument and answer of everything that a parent may ask for. */
export interface Requests {
  /** Makes a server; returns a peer's version. */
  start: [{ contestant: ContestantName; options: ServerOptions }, string | null];
  /** Answers all requests at the same time. */
  answer: [readonly ServingRequest[], number[][]];
  drive: [Load, Figures];
  play: [{ options: Omit<ServerOptions, "sequences" | "length">; scenario: Scenario }, Finding[]];
  close: [null, null];
}

/** Message of a parent. */
export type Message = { [K in keyof Requests]: { action: K; argument: Requests[K][0] } }[keyof Requests];

let server: Server | null = null;
let before = 0;

async function perform(message: Message): Promise<Requests[keyof Requests][1]> {
  switch (message.action) {
    case "start": {
      const { contestant, options } = message.argument;
      setThreads(options.threads);
      before = await settled(null);
      server = await (contestant === "heed" ? HeedServer : LlamaServer).start(options);
      return contestant === "heed" ? null : llamaVersion();
    }
    case "answer":
      return Promise.all(message.argument.map((request) => tokensOf(server!, request)));
    case "drive":
      return drive(server!, message.argument, before);
    case "play":
      setThreads(message.argument.options.threads);
      return play(message.argument.options, message.argument.scenario);
    case "close":
      await server?.close();
      server = null;
      return null;
  }
}

async function tokensOf(server: Server, request: ServingRequest): Promise<number[]> {
  const tokens: number[] = [];
  for await (const token of server.answer(request)) tokens.push(token);
  return tokens;
}

process.on("message", (message: Message) => {
  perform(message).then(
    (result) => process.send!({ result }),
    (error: unknown) => process.send!({ error: String(error instanceof Error ? error.message : error).slice(0, 500) }),
  );
});
