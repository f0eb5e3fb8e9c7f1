/** What the process of the server and that of its clients tell each other. */
import type { Pauses } from "../support/turns.js";
import type { Held } from "./measure.js";

/** A question that a model has answered before it was served. */
export interface Question {
  model: string;
  prompt: string;
  options: { max_tokens: number; seed: number; temperature: number };
  /** Text that continues the prompt. */
  text: string;
  /** Answer to the prompt as a conversation. */
  chat: string;
}

/** What the parent gets first. */
export interface Begun {
  url: string;
  questions: Question[];
  /** Vector of "the whale". */
  vector: number[];
  /** Number of tokens of "hello world". */
  count: number;
  /** Names of the faults. */
  faults: string[];
}

/** State of the process. */
export interface Measured {
  /** Bytes. */
  size: number;
  held: Held;
  pauses: Pauses;
}

/** What the parent asks for: to begin a fault, to end it, or to measure. */
export type Order = { fault: string } | "calm" | "measure";

/** API keys. */
export const apiKeys = ["alpha", "beta"];
/** Longest body, in bytes. */
export const bodyLimit = 4 * 2 ** 20;
/** Seconds that requests have to finish. */
export const drainSeconds = 10;
