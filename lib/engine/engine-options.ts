import type { TextOptions } from "../generate/options.js";
import type { KvType } from "../nn/kv-pages.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import type { SpeculationOptions } from "./speculation.js";
import type { RequestSummary, TimeDistribution } from "./statistics.js";

/** Options of an `Engine`. */
export interface EngineOptions {
  /** Tokenizer of the model. Without one (null), prompts must be tokens. @default null */
  tokenizer?: Tokenizer | null;
  /** Options of requests that do not set them, such as the tokens that end a text. @default {} */
  defaults?: TextOptions;
  /**
   * Largest number of tokens that a step computes. Long prompts are computed in pieces, so that others need not wait.
   *
   * @default 512, and more for models of fewer than about a million weights, whose steps would be too short: up to 4096
   */
  maxBatchTokens?: number;
  /**
   * Time in milliseconds that a step should take at most while requests generate. Prompts are then read in pieces that
   * fit into this time, of at least 32 tokens, so that the others get their tokens in time. With Infinity, only
   * `maxBatchTokens` limits the pieces: prompts are then read a little faster, and the others wait longer.
   *
   * @default 250
   */
  maxStepTime?: number;
  /** Largest number of answers that run at the same time; a request has `n` of them. @default 64 */
  maxSequences?: number;
  /**
   * Largest number of answers that wait while `maxSequences` run. A further one is refused (ERR_BUSY), and so is a
   * request for more answers than `maxSequences` and `maxQueue` together (ERR_RANGE).
   *
   * @default 1024
   */
  maxQueue?: number;
  /**
   * Largest number of tokens of a sequence, if that is to be less than what the model sees. A longer prompt is refused,
   * and a text that fills the context ends with the finish reason "length".
   *
   * @default the context of the model, or as many tokens as the memory for keys and values has room for
   */
  context?: number;
  /**
   * Bytes of memory for keys and values, which is reserved at once and also keeps those of earlier requests. It must have
   * room for a page of tokens. If a sequence of the whole context does not fit, the context is shorter.
   *
   * @default memory that grows with the requests that run at the same time, up to a part (`kvShare`) of what is available
   * to the process when the engine is created, but to at least one page for each of `maxSequences` sequences
   */
  kvMemory?: number;
  /**
   * Part of the memory that is available to the process, or of the memory that the CUDA device has left, that keys and
   * values may take if `kvMemory` is not given. Several engines of a process share it well if each gets a part of it.
   *
   * @default 0.75
   */
  kvShare?: number;
  /**
   * @internal True if one sequence of the whole context always fits into memory that grows, also if it is more than what
   * is available: results then do not depend on the machine.
   */
  wholeContext?: boolean;
  /** Number of tokens of a page of that memory. Requests share whole pages. @default 64 */
  pageSize?: number;
  /**
   * Type in which keys and values are stored. "f16" and "bf16" take half of the memory of f32, and leave a model that has 16
   * bits as it is; numbers beyond 65,504 become infinite in f16. "int8" stores them in 8 bits, with a scale for each head of
   * each token, so that the same memory holds about twice as many tokens as in bf16 and f16: a head of D numbers takes D + 4
   * bytes. Keys and values change a little, and with them the tokens. Null stores them in the dtype of the model.
   *
   * @default null
   */
  kvType?: KvType | null;
  /**
   * Speculative decoding: tokens are guessed, and several of them are computed in one step. "ngram" guesses that the text
   * repeats what came before. Requests get the same tokens as without.
   *
   * @default null
   */
  speculation?: "ngram" | SpeculationOptions | null;
  /** Function that is called when a request that generates tokens has ended, with its figures. */
  onFinish?: (summary: RequestSummary) => void;
}

/** Figures about an `Engine`. */
export interface EngineMetrics {
  /** Requests that wait. */
  waiting: number;
  /** Requests that run. */
  running: number;
  /** Pages of KV memory. */
  pages: number;
  /** Largest number of tokens of a sequence. */
  contextLength: number;
  /** Bytes that the KV memory may have at most. */
  kvMemory: number;
  /**
   * Bytes of the KV memory that there is now. It is made when it is first needed, unless `kvMemory` reserves it. On the CPU
   * it may have room for twice as many pages as there are.
   */
  kvBytes: number;
  /** Bytes of it that the system has given so far: on the CPU, memory is given when it is first written. */
  kvResident: number;
  /** Pages that requests use. */
  pagesUsed: number;
  /** Pages that more than one request uses. */
  pagesShared: number;
  /** Steps since the engine was created. */
  steps: number;
  /** Tokens that were computed since then, of prompts and of answers. */
  computedTokens: number;
  /** Tokens of prompts that did not have to be computed, because the prefix cache had them. */
  cachedTokens: number;
  /** Tokens that were generated. */
  generatedTokens: number;
  /** Tokens that were generated per second, over the latest ten seconds. */
  tokensPerSecond: number;
  /** Time from the arrival of a request to its first token. */
  timeToFirstToken: TimeDistribution;
  /** Time between two tokens of a request. */
  timeBetweenTokens: TimeDistribution;
  /** Number of times that a request lost its pages to another, so that its tokens were computed again. */
  preemptions: number;
  /** Tokens that speculation has guessed. */
  draftedTokens: number;
  /** Guessed tokens that were right. */
  acceptedTokens: number;
}
