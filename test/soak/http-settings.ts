/** Messages between the process of the server and that of its clients, and settings that both know. */
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

/** First message of the server's process, which says that it serves. */
export interface Begun {
  url: string;
  questions: Question[];
  /** Vector of "the whale". */
  vector: number[];
  /** Number of tokens of "hello world". */
  count: number;
  /** Names of the faults. */
  faults: string[];
  /** Number of the model that was found on the disk; 0 if there was none. */
  saved: number;
}

/** Counts of what the batches and saves have done on the full disk. */
export type Report = { saved: number } | { failed: string };

/** State of the process. */
export interface Measured {
  /** Bytes of the process. */
  size: number;
  /** Bytes of the objects of JavaScript. */
  heap: number;
  held: Held;
  pauses: Pauses;
}

/**
 * Message to the server's process: it begins a fault, works on its disk without one, ends both, or measures its state.
 */
export type Order = { fault: string } | "work" | "calm" | "measure";

/** API keys. */
export const apiKeys = ["alpha", "beta"];
/** Name of an adapter of the model "cpu". */
export const adapter = "tuned";
/** Longest body, in bytes. */
export const bodyLimit = 4 * 2 ** 20;
/** Seconds that requests have to finish. */
export const drainSeconds = 10;
