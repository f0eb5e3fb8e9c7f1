// Sends requests to a server and notes when their tokens come.
import { setMaxListeners } from "node:events";
import { type IntervalHistogram, monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout } from "node:timers/promises";
import type { Device } from "heed";
import { most, settled } from "../memory.js";
import { type Figures, figuresOf, type Trace } from "./figures.js";
import { arrivalsOf, requestsOf, type ServingRequest, type Traffic } from "./load.js";

/** A server of a model, in this process. */
export interface Server {
  /** V, the number of tokens in the model's vocabulary. */
  readonly vocabulary: number;
  /** Device whose unused memory is freed before memory is measured; null if that is the server's own matter. */
  readonly device: Device | null;
  /** Yields the likeliest tokens one by one, all `maxTokens` of them unless the signal aborts. */
  answer(request: ServingRequest, signal?: AbortSignal): AsyncIterable<number>;
  close(): Promise<void>;
}

/** Load of a server. */
export type Load = { readonly traffic: Traffic; readonly seconds: number; readonly seed: number } & (
  | {
      readonly kind: "closed";
      /** Number of callers, each of whom has one request at a time. */ readonly callers: number;
    }
  | { readonly kind: "open"; /** Requests per second. */ readonly rate: number }
);

/** Puts a load on a server and returns what was measured. `before` is the memory in use before the server was made. */
export async function drive(server: Server, load: Load, before: number): Promise<Figures> {
  await settled(server.device);
  const pauses = monitorEventLoopDelay({ resolution: 1 });
  const { traces, window } = await (load.kind === "closed"
    ? closedLoop(server, load, pauses)
    : openLoop(server, load, pauses));
  // What is measured are the times between calls of a timer, which are a millisecond apart by themselves.
  const pause = Math.max(0, pauses.max / 1e6 - 1);
  return figuresOf(traces, window, { pause, memory: process.platform === "linux" ? most() - before : null });
}

interface Driven {
  traces: Trace[];
  /** Begin and end of the time that counts, as `performance.now()` gives them. */
  window: readonly [number, number];
}

/** Keeps callers busy. The time that counts begins when each of them has had its first token. */
async function closedLoop(server: Server, load: Load & { kind: "closed" }, pauses: IntervalHistogram): Promise<Driven> {
  const requests = requestsOf(load.traffic, server.vocabulary, load.seed);
  const stop = stopper();
  const traces: Trace[] = [];
  const first: Promise<void>[] = [];
  const callers = Array.from({ length: load.callers }, async () => {
    let begun!: () => void;
    first.push(new Promise((resolve) => (begun = resolve)));
    while (!stop.signal.aborted) {
      const trace = newTrace();
      traces.push(trace);
      await follow(server, requests.next().value, trace, stop.signal, begun);
    }
  });
  const all = Promise.all(callers);
  await Promise.race([Promise.all(first), all]);
  pauses.enable();
  const start = performance.now();
  await Promise.race([setTimeout(1000 * load.seconds), all]);
  const end = performance.now();
  pauses.disable();
  stop.abort();
  await all;
  return { traces, window: [start, end] };
}

/** Lets requests arrive at random times. Those that arrived are then waited for, but no longer than arrivals lasted. */
async function openLoop(server: Server, load: Load & { kind: "open" }, pauses: IntervalHistogram): Promise<Driven> {
  const requests = requestsOf(load.traffic, server.vocabulary, load.seed);
  const stop = stopper();
  pauses.enable();
  const start = performance.now();
  const arrived: [Trace, Promise<void>][] = [];
  for (const time of arrivalsOf(load.rate, load.seconds, load.seed)) {
    await setTimeout(Math.max(0, start + time - performance.now()));
    // A request that could not be sent in time has waited since it should have been.
    const trace = { ...newTrace(), start: start + time };
    arrived.push([trace, follow(server, requests.next().value, trace, stop.signal)]);
  }
  await setTimeout(Math.max(0, start + 1000 * load.seconds - performance.now()));
  const end = performance.now();
  pauses.disable();
  const all = Promise.all(arrived.map(([, done]) => done));
  const late = new AbortController();
  await Promise.race([all, setTimeout(1000 * load.seconds, null, { signal: late.signal }).catch(() => null)]);
  late.abort();
  stop.abort();
  await all;
  return { traces: arrived.map(([trace]) => trace), window: [start, end] };
}

/** Returns a controller that ends all requests. */
function stopper(): AbortController {
  const stop = new AbortController();
  setMaxListeners(0, stop.signal);
  return stop;
}

const newTrace = (): Trace => ({ start: performance.now(), tokens: [], end: NaN });

/** Sends a request and notes the times of its tokens. */
async function follow(
  server: Server,
  request: ServingRequest,
  trace: Trace,
  signal: AbortSignal,
  onFirst?: () => void,
): Promise<void> {
  try {
    for await (const _ of server.answer(request, signal)) {
      trace.tokens.push(performance.now());
      if (trace.tokens.length === 1) onFirst?.();
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
  if (trace.tokens.length === request.maxTokens) trace.end = performance.now();
  else if (!signal.aborted)
    throw new Error(`expected an answer of ${request.maxTokens} tokens, got ${trace.tokens.length}`);
}
