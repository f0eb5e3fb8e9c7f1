// What the engine promises about a batch, a long prompt and a shared one.
import { generateTokens } from "heed";
import { rounded, statistics } from "../statistics.js";
import type { Finding } from "./finding.js";
import { HeedServer, pageSize, type ServerOptions } from "./heed-server.js";
import { compareHttp, type HttpScenario } from "./http.js";
import { firstRequests, longest, type ServingRequest } from "./load.js";

/** Something to find out about heed's engine. */
export type Scenario =
  /** Compares streams of equal lengths with the same prompts as one batch. */
  | { readonly kind: "batch"; streams: number; prompt: number; answer: number; rounds: number }
  /** Lets a long prompt arrive beside streams. */
  | { readonly kind: "long prompt"; streams: number; prompt: number }
  /** Sends requests that begin with the same tokens at the same time. */
  | { readonly kind: "shared prompt"; requests: number; shared: number }
  /** Compares callers over HTTP with callers in the process. */
  | HttpScenario;

/** Returns the most sequences, and the most tokens of one, that a scenario has. */
function roomFor(scenario: Scenario): Pick<ServerOptions, "sequences" | "length"> {
  switch (scenario.kind) {
    case "batch":
      return { sequences: scenario.streams, length: scenario.prompt + scenario.answer };
    case "long prompt":
      return { sequences: scenario.streams + 1, length: scenario.prompt + 64 };
    case "shared prompt":
      return { sequences: scenario.requests, length: scenario.shared + 64 };
    case "http":
      return { sequences: scenario.callers, length: longest(scenario.traffic) };
  }
}

/** Runs a scenario with a server of its own. */
export async function play(
  options: Omit<ServerOptions, "sequences" | "length">,
  scenario: Scenario,
): Promise<Finding[]> {
  const room = { ...options, ...roomFor(scenario) };
  if (scenario.kind === "http") return compareHttp(room, scenario);
  const server = await HeedServer.start(room);
  try {
    if (scenario.kind === "batch") return await batch(server, scenario);
    if (scenario.kind === "long prompt") return await longPrompt(server, scenario);
    return await sharedPrompt(server, scenario);
  } finally {
    await server.close();
  }
}

async function tokensOf(server: HeedServer, request: ServingRequest): Promise<number[]> {
  const tokens: number[] = [];
  for await (const token of server.answer(request)) tokens.push(token);
  return tokens;
}

async function milliseconds(run: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await run();
  return performance.now() - start;
}

async function batch(server: HeedServer, { streams, prompt, answer, rounds }: Scenario & { kind: "batch" }) {
  const traffic = { prompt: [prompt, prompt], answer: [answer, answer] } as const;
  const times: { engine: number; batch: number }[] = [];
  // The rounds of the first second are not counted, because JavaScript is compiled in them: a round of a tiny model takes
  // a hundredth of that. Every round has other prompts, so that the engine finds none in its cache.
  const begin = performance.now();
  for (let round = 0; times.length < rounds || performance.now() - begin < 1000 * rounds; round++) {
    const requests = firstRequests(traffic, server.vocabulary, 100 + round, streams);
    const prompts = requests.map(({ tokens }) => tokens);
    let [served, expected]: [number[][], number[][]] = [[], []];
    const engine = await milliseconds(async () => {
      served = await Promise.all(requests.map((request) => tokensOf(server, request)));
    });
    const batch = await milliseconds(async () => {
      const results = await generateTokens(server.model, prompts, { maxTokens: answer, temperature: 0 });
      expected = results.map(({ tokens }) => tokens);
    });
    if (JSON.stringify(served) !== JSON.stringify(expected))
      throw new Error("batch: expected the engine's tokens to be those of generateTokens, got others");
    if (round > 0 && performance.now() - begin > 1000) times.push({ engine, batch });
  }
  const rate = (of: "engine" | "batch"): number =>
    rounded((1000 * streams * answer) / statistics(times.map((time) => time[of])).median);
  const ratio = statistics(times.map(({ engine, batch }) => batch / engine)).median;
  const shape = `${streams} streams of ${prompt} + ${answer} tokens`;
  return [
    { text: `${shape}: speed relative to one batch`, got: ratio, unit: "×", goal: { least: 0.85 } },
    { text: `${shape}: the engine`, got: rate("engine"), unit: "tokens/s", goal: null },
    { text: `${shape}: generateTokens`, got: rate("batch"), unit: "tokens/s", goal: null },
  ] satisfies Finding[];
}

async function longPrompt(server: HeedServer, { streams, prompt }: Scenario & { kind: "long prompt" }) {
  const { engine } = server;
  const traffic = { prompt: [16, 32], answer: [32, 32] } as const;
  const stop = new AbortController();
  /** Number of steps before each token of each stream, and its time. */
  const tokens: { steps: number; time: number }[][] = [];
  let begun!: () => void;
  const running = new Promise<void>((resolve) => (begun = resolve));
  // The streams go on until the long prompt has been read.
  const answers = firstRequests(traffic, server.vocabulary, 1, streams).map(async (request) => {
    const own: { steps: number; time: number }[] = [];
    tokens.push(own);
    const endless = { tokens: request.tokens, maxTokens: prompt };
    try {
      for await (const _ of server.answer(endless, stop.signal)) {
        own.push({ steps: engine.metrics.steps, time: performance.now() });
        if (tokens.length === streams && tokens.every(({ length }) => length >= 4)) begun();
      }
    } catch (error) {
      if (!stop.signal.aborted) throw error;
    }
  });
  const all = Promise.all(answers);
  await Promise.race([running, all]);
  const [long] = firstRequests({ prompt: [prompt, prompt], answer: [4, 4] }, server.vocabulary, 2, 1);
  const start = performance.now();
  await tokensOf(server, long!);
  const end = performance.now();
  stop.abort();
  await all;
  const gaps = tokens.flatMap((own) =>
    own.slice(1).map(({ steps, time }, i) => ({ time, steps: steps - own[i]!.steps, gap: time - own[i]!.time })),
  );
  const meanwhile = gaps.filter(({ time }) => time >= start && time <= end);
  const most = (of: "steps" | "gap"): number => rounded(Math.max(...meanwhile.map((one) => one[of])));
  const shape = `a prompt of ${prompt} tokens beside ${streams} streams`;
  const usual = statistics(meanwhile.map(({ gap }) => gap)).median;
  return [
    { text: `${shape}: most steps between two tokens`, got: most("steps"), unit: "steps", goal: { most: 2 } },
    { text: `${shape}: longest time between two tokens`, got: most("gap"), unit: "ms", goal: null },
    { text: `${shape}: median time of a step`, got: usual, unit: "ms", goal: null },
    { text: `${shape}: time to its first token`, got: rounded(end - start), unit: "ms", goal: null },
  ] satisfies Finding[];
}

async function sharedPrompt(server: HeedServer, { requests: count, shared }: Scenario & { kind: "shared prompt" }) {
  const traffic = { prompt: [16, 32], answer: [16, 16], shared } as const;
  const requests = firstRequests(traffic, server.vocabulary, 1, count);
  const time = await milliseconds(() => Promise.all(requests.map((request) => tokensOf(server, request))));
  const { cachedTokens, computedTokens } = server.engine.metrics;
  // Whole pages are shared, and the first request has to compute them.
  const least = (count - 1) * Math.floor(shared / pageSize) * pageSize;
  const shape = `${count} requests with the same ${shared} tokens at the beginning`;
  return [
    { text: `${shape}: tokens that were not computed again`, got: cachedTokens, unit: "tokens", goal: { least } },
    { text: `${shape}: tokens that were computed`, got: computedTokens, unit: "tokens", goal: null },
    { text: `${shape}: time of all`, got: rounded(time), unit: "ms", goal: null },
  ] satisfies Finding[];
}
