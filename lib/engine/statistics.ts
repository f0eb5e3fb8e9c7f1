import { createHistogram, type RecordableHistogram } from "node:perf_hooks";
import type { FinishReason } from "../generate/sequence.js";
import type { Request } from "./request.js";

/** Distribution of a time, in milliseconds; all numbers are 0 if nothing was measured. */
export interface TimeDistribution {
  /** Number of measurements. */
  count: number;
  mean: number;
  /** Median. */
  p50: number;
  /** 99th percentile. */
  p99: number;
  max: number;
}

/** Figures of a request that has ended. */
export interface RequestSummary {
  /** Number of the prompt's tokens. */
  promptTokens: number;
  /** Number of them that did not have to be computed, because the prefix cache had them. */
  cachedTokens: number;
  /** Number of generated tokens. */
  completionTokens: number;
  /** Reason why it ended; "cancelled" if nobody reads it any more, "error" if it failed or its signal aborted. */
  finishReason: FinishReason | "cancelled" | "error";
  /** Milliseconds that the request waited; null if it never began. */
  queueTime: number | null;
  /** Milliseconds from its arrival to its first token; null if it got none. */
  timeToFirstToken: number | null;
  /** Milliseconds from its arrival to its end. */
  duration: number;
}

const seconds = 10;

/** Times and rates of the requests of an engine. */
export class Statistics {
  /** Number of tokens that were generated. */
  generated = 0;
  readonly #firstToken = createHistogram();
  readonly #betweenTokens = createHistogram();
  /** Number of tokens in each of the latest seconds, by the second modulo their number. */
  readonly #latest = new Float64Array(seconds);
  #second = 0;
  readonly #begin = performance.now();
  #lastEnd = NaN;
  /** Mean of the times between the ends of requests, in milliseconds. */
  #interval = NaN;

  /** Notes that a request has got a token, or has ended instead. Its token before came at `before`. */
  token(request: Request, before: number): void {
    const { arrival, lastToken } = request.times;
    if (Object.is(lastToken, before)) return;
    this.generated++;
    this.#forget(lastToken);
    this.#latest[this.#second % this.#latest.length]!++;
    if (Number.isNaN(before)) record(this.#firstToken, lastToken - arrival);
    else record(this.#betweenTokens, lastToken - before);
  }

  /** Notes that a request has ended, and returns its summary. */
  ended({ times, prompt, cachedTokens, generated, end }: Request): RequestSummary {
    const now = performance.now();
    const interval = now - this.#lastEnd;
    this.#lastEnd = now;
    if (!Number.isNaN(interval))
      this.#interval = Number.isNaN(this.#interval) ? interval : 0.9 * this.#interval + 0.1 * interval;
    const since = (time: number): number | null => (Number.isNaN(time) ? null : time - times.arrival);
    return {
      ...{ promptTokens: prompt, cachedTokens, completionTokens: generated },
      finishReason: typeof end === "object" || end === "diverged" ? "error" : end,
      queueTime: since(times.start),
      timeToFirstToken: since(times.firstToken),
      duration: now - times.arrival,
    };
  }

  /** Tokens per second, over the latest ten seconds. */
  get tokensPerSecond(): number {
    this.#forget(performance.now());
    const whole = this.#latest.reduce((sum, count) => sum + count, 0);
    const elapsed = (performance.now() - this.#begin) / 1000;
    // The second that has begun is one of them.
    const span = Math.min(elapsed, seconds - 1 + (elapsed % 1));
    return whole === 0 ? 0 : whole / span;
  }

  get timeToFirstToken(): TimeDistribution {
    return distribution(this.#firstToken);
  }

  get timeBetweenTokens(): TimeDistribution {
    return distribution(this.#betweenTokens);
  }

  /** Returns the seconds in which about `requests` requests end, by the latest ones. */
  secondsFor(requests: number): number {
    return Number.isNaN(this.#interval) ? 1 : (requests * this.#interval) / 1000;
  }

  /** Sets the counts of the seconds that have begun since the last call to 0; `time` is now. */
  #forget(time: number): void {
    const now = Math.floor((time - this.#begin) / 1000);
    const begun = Math.min(now - this.#second, this.#latest.length);
    for (let i = 0; i < begun; i++) this.#latest[(now - i) % this.#latest.length] = 0;
    this.#second = now;
  }
}

function record(histogram: RecordableHistogram, milliseconds: number): void {
  histogram.record(Math.max(1, Math.round(milliseconds * 1e6)));
}

function distribution(histogram: RecordableHistogram): TimeDistribution {
  if (histogram.count === 0) return { count: 0, mean: 0, p50: 0, p99: 0, max: 0 };
  const at = (percentile: number): number => histogram.percentile(percentile) / 1e6;
  const [mean, max] = [histogram.mean / 1e6, histogram.max / 1e6];
  return { count: histogram.count, mean, p50: at(50), p99: at(99), max };
}
