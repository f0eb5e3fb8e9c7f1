// The requests of a run, and when they arrive. Both follow from a seed, so every contestant gets the same ones.

/** Tokens to continue, and the number of tokens of the answer. */
export interface ServingRequest {
  tokens: number[];
  maxTokens: number;
}

/** Shortest and longest length. The logarithm of a length is uniform between the two, so short ones are more frequent. */
export type Range = readonly [least: number, most: number];

/** Lengths of the requests of a run. */
export interface Traffic {
  prompt: Range;
  answer: Range;
  /** Number of tokens that all prompts begin with, before those of `prompt`. @default 0 */
  shared?: number;
}

/** Returns a function that returns uniform pseudorandom numbers in (0, 1). */
export function uniform(seed: number): () => number {
  // Each number is a hash of its index (Steele et al. 2014, "Fast splittable pseudorandom number generators").
  let state = Math.imul(seed, 0x9e3779b1);
  return () => {
    state = (state + 0x9e3779b9) | 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
    return ((z ^ (z >>> 16)) >>> 0) / 2 ** 32 + 2 ** -33;
  };
}

/** Yields requests without end; the same ones for the same arguments. */
export function* requestsOf(
  { prompt, answer, shared = 0 }: Traffic,
  vocabulary: number,
  seed: number,
): Generator<ServingRequest, never> {
  const random = uniform(seed);
  const length = ([least, most]: Range): number => Math.round(least * (most / least) ** random());
  // The first tokens of a vocabulary are often special ones.
  const special = Math.min(8, vocabulary >> 1);
  const tokens = (count: number): number[] =>
    Array.from({ length: count }, () => special + Math.floor((vocabulary - special) * random()));
  const beginning = tokens(shared);
  for (;;) {
    const own = tokens(length(prompt));
    yield { tokens: [...beginning, ...own], maxTokens: length(answer) };
  }
}

/** Returns the first `count` requests. */
export function firstRequests(traffic: Traffic, vocabulary: number, seed: number, count: number): ServingRequest[] {
  const requests = requestsOf(traffic, vocabulary, seed);
  return Array.from({ length: count }, () => requests.next().value);
}

/** Returns the mean number of tokens of an answer. */
export function meanAnswer({ answer: [least, most] }: Traffic): number {
  return least === most ? least : (most - least) / Math.log(most / least);
}

/** Returns the most tokens that a request and its answer have together. */
export function longest({ prompt, answer, shared = 0 }: Traffic): number {
  return shared + prompt[1] + answer[1];
}

/** Returns the times of arrivals within `seconds` in milliseconds, as a Poisson process of `rate` per second has them. */
export function arrivalsOf(rate: number, seconds: number, seed: number): number[] {
  const random = uniform(seed);
  const times: number[] = [];
  for (let time = 0; ;) {
    time -= (1000 * Math.log(random())) / rate;
    if (time >= 1000 * seconds) return times;
    times.push(time);
  }
}
