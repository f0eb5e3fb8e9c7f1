// What HTTP costs: the same callers ask the engine in this process, and a server of the same model over HTTP.
import { type ChildProcess, fork } from "node:child_process";
import { once, setMaxListeners } from "node:events";
import { readFileSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { ByteTokenizer, Engine, LanguageModel } from "heed";
import { createServer } from "heed/server";
import { rounded, statistics } from "../statistics.js";
import type { Finding } from "./finding.js";
import { engineOptions, type ServerOptions } from "./heed-server.js";
import type { ClientOrder } from "./http-client.js";
import { requestsOf, type ServingRequest, type Traffic } from "./load.js";
import { createModel, servingModels } from "./models.js";

/** Callers that have one request each at a time. */
export interface HttpScenario {
  readonly kind: "http";
  callers: number;
  traffic: Traffic;
  /** Seconds of each turn. */
  seconds: number;
  rounds: number;
}

/** Ways of asking: the engine in the process, and the server for streams and for whole answers. */
type Way = "engine" | "streamed" | "whole";

interface Turn {
  tokensPerSecond: number;
  /** Microseconds for which the main thread worked, for each token. */
  work: number;
}

/**
 * Lets the ways take turns, and compares their tokens per second. The callers over HTTP are a process of their own, which
 * shares the machine's cores with the server.
 */
export async function compareHttp(options: ServerOptions, scenario: HttpScenario): Promise<Finding[]> {
  const { callers, rounds } = scenario;
  const model = await createModel(options.model, options.format, options.device);
  const tokenizer = (await servingModels[options.model].tokenizer?.()) ?? new ByteTokenizer();
  const { vocabularySize: vocabulary } = model.config;
  const limits = engineOptions(model, options);
  const app = await createServer({ models: { model: new LanguageModel({ model, tokenizer }) }, engine: limits });
  const engine = new Engine(model, { ...limits, tokenizer });
  const client = fork(fileURLToPath(new URL("http-client.js", import.meta.url)), { stdio: ["ignore", 2, 2, "ipc"] });
  // It has printed what went wrong.
  client.on("exit", (code) => code && process.exit(code));
  try {
    const url = await app.listen({ host: "127.0.0.1", port: 0 });
    const turns: Record<Way, Turn[]> = { engine: [], streamed: [], whole: [] };
    // The first round is not counted.
    for (let round = 0; round <= rounds; round++)
      for (const way of ["engine", "streamed", "whole"] as const) {
        const generated = () =>
          way === "engine" ? Promise.resolve(engine.metrics.generatedTokens) : generatedTokens(url);
        const first = (await generated()) + 3 * callers;
        const load =
          way === "engine"
            ? inProcess(engine, scenario, vocabulary)
            : overHttp(client, url, scenario, vocabulary, way === "streamed");
        const turn = await measured(load, generated, first, scenario.seconds);
        if (round > 0) turns[way].push(turn);
      }
    return findings(turns, callers);
  } finally {
    client.kill();
    await engine.close();
    await app.close();
    model.dispose();
  }
}

function findings(turns: Record<Way, Turn[]>, callers: number): Finding[] {
  const middle = (way: Way, of: keyof Turn): number => rounded(statistics(turns[way].map((turn) => turn[of])).median);
  const ratio = (way: Way): number =>
    rounded(statistics(turns[way].map((turn, i) => turn.tokensPerSecond / turns.engine[i]!.tokensPerSecond)).median);
  const names = {
    engine: "the engine in the process",
    streamed: "streams over HTTP",
    whole: "whole answers over HTTP",
  };
  const ways = ["engine", "streamed", "whole"] as const;
  return [
    ...(["streamed", "whole"] as const).map((way): Finding => ({
      text: `${callers} callers, ${names[way]}: speed relative to ${names.engine}`,
      ...{ got: ratio(way), unit: "×", goal: { least: 0.95 } },
    })),
    ...ways.flatMap((way): Finding[] => [
      { text: `${callers} callers, ${names[way]}`, got: middle(way, "tokensPerSecond"), unit: "tokens/s", goal: null },
      {
        text: `${callers} callers, ${names[way]}: work of the main thread`,
        got: middle(way, "work"),
        unit: "µs a token",
        goal: null,
      },
    ]),
  ];
}

/** A load that runs until it is stopped. */
interface Running {
  stop: () => Promise<void>;
}

function inProcess(engine: Engine, { callers, traffic }: HttpScenario, vocabulary: number): Running {
  const requests = requestsOf(traffic, vocabulary, 1);
  const stop = new AbortController();
  const { signal } = stop;
  setMaxListeners(0, signal);
  const ask = async ({ tokens, maxTokens }: ServingRequest): Promise<void> => {
    for await (const _ of engine.generate({ tokens, maxTokens, minTokens: maxTokens, temperature: 0, signal }));
  };
  const all = Promise.all(
    Array.from({ length: callers }, async () => {
      while (!signal.aborted)
        await ask(requests.next().value).catch((error: unknown) => {
          if (!signal.aborted) throw error;
        });
    }),
  );
  return {
    stop: async () => {
      stop.abort();
      await all;
    },
  };
}

function overHttp(
  client: ChildProcess,
  url: string,
  { callers, traffic }: HttpScenario,
  vocabulary: number,
  stream: boolean,
): Running {
  client.send({ url, callers, traffic, vocabulary, stream } satisfies ClientOrder);
  return {
    stop: async () => {
      const stopped = once(client, "message");
      client.send("stop");
      await stopped;
    },
  };
}

/** Measures a load from when its first prompts have been read. `first` is the number of tokens that there are then. */
async function measured(
  load: Running,
  generated: () => Promise<number>,
  first: number,
  seconds: number,
): Promise<Turn> {
  while ((await generated()) < first) await setTimeout(100);
  const [time, work, tokens] = [performance.now(), mainThreadWork(), await generated()];
  await setTimeout(1000 * seconds);
  const [passed, worked, count] = [performance.now() - time, mainThreadWork() - work, (await generated()) - tokens];
  await load.stop();
  return { tokensPerSecond: (1000 * count) / passed, work: (1000 * worked) / count };
}

/** Returns the milliseconds for which the main thread has worked; NaN if the system does not tell. */
function mainThreadWork(): number {
  return process.platform === "linux" ? Number(readFileSync("/proc/self/schedstat", "utf8").split(" ")[0]) / 1e6 : NaN;
}

async function generatedTokens(url: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return Number(/^heed_engine_generated_tokens_total\{.*\} (\d+)$/m.exec(text)![1]);
}
