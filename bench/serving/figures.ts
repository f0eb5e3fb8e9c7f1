// What is reported about a run, made from the times of its tokens.
import { rounded } from "../statistics.js";

/** Times of a request in milliseconds, as `performance.now()` gives them. */
export interface Trace {
  start: number;
  /** Time of each token. */
  tokens: number[];
  /** Time at which the answer was complete; NaN if it never was. */
  end: number;
}

/** Distribution of a time, in milliseconds. */
export interface Times {
  p50: number;
  p99: number;
  max: number;
}

/** Measurements of a server under a load. */
export interface Figures {
  tokensPerSecond: number;
  requestsPerSecond: number;
  /** Time from a request to its first token; null if there was none. */
  firstToken: Times | null;
  /** Time between two tokens of a request; null if there were none. */
  betweenTokens: Times | null;
  /** Longest time that the event loop did not run, in milliseconds. */
  pause: number;
  /** Most bytes that the process had beyond those from before it loaded the model; null if that is unknown. */
  memory: number | null;
}

/** Returns the figures of the time between `begin` and `end`. */
export function figuresOf(
  traces: readonly Trace[],
  [begin, end]: readonly [number, number],
  { pause, memory }: Pick<Figures, "pause" | "memory">,
): Figures {
  const within = (time: number): boolean => time >= begin && time <= end;
  const perSecond = (times: readonly number[]): number => rounded((1000 * times.filter(within).length) / (end - begin));
  // A request that began within the time counts even if its token came later, so that an overload shows.
  const first = traces.filter(({ start, tokens }) => within(start) && tokens.length > 0);
  const gaps = traces.flatMap(({ tokens }) =>
    tokens.flatMap((time, i) => (i > 0 && within(time) ? [time - tokens[i - 1]!] : [])),
  );
  return {
    tokensPerSecond: perSecond(traces.flatMap(({ tokens }) => tokens)),
    requestsPerSecond: perSecond(traces.map(({ end }) => end)),
    firstToken: timesOf(first.map(({ start, tokens }) => tokens[0]! - start)),
    betweenTokens: timesOf(gaps),
    pause: rounded(pause),
    memory,
  };
}

function timesOf(values: readonly number[]): Times | null {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  // The smallest value that at least this share of the values does not exceed.
  const at = (share: number): number => rounded(sorted[Math.ceil(share * sorted.length) - 1]!);
  return { p50: at(0.5), p99: at(0.99), max: at(1) };
}
