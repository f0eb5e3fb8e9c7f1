// How much memory an engine has for keys and values, how many tokens a sequence can have with it, and the memory itself.
import { checkInteger, checkNumber } from "../util/check.js";
import type { FloatDType } from "../core/dtype.js";
import { HeedError } from "../util/errors.js";
import type { CausalDecoder } from "../models/causal-decoder.js";
import { bytesOfHead, type KvPages, type KvType, storedType } from "../nn/kv-pages.js";
import type { RecordedSteps } from "./recorded-steps.js";

/** Returns the bytes of a page of `pageSize` tokens. */
export function bytesOfPage(model: CausalDecoder, { pageSize, kvType }: PageShape): number {
  const { layers, kvHeads } = model.config;
  return 2 * layers * kvHeads * bytesOfHead(model.headSize, model.dtype, kvType) * pageSize;
}

/** Content of a page. */
export interface PageShape {
  /** Number of tokens. */
  readonly pageSize: number;
  /** Type that the caller has chosen for keys and values; null for the dtype of the model. */
  readonly kvType: KvType | null;
}

/** Pages of an engine's memory. */
export interface PageCounts extends PageShape {
  /** Number of pages at the beginning. */
  readonly first: number;
  /** Largest number of pages. */
  readonly most: number;
}

/** Part of the memory that is available which keys and values may take if the caller does not say how much. */
export const usualShare = 0.75;

/** Number of pages at the beginning, if the caller does not say how much memory there is. */
const firstPages = 16;

/** Options of an engine's memory; see `EngineOptions`. */
export interface RoomOptions {
  readonly context: number | undefined;
  readonly kvMemory: number | undefined;
  readonly kvShare: number | undefined;
  readonly wholeContext: boolean | undefined;
}

/** The room that an engine has for keys and values. */
export class KvRoom {
  /** Bytes that they may take, and one page for rows without a request. */
  readonly #bytes: number;
  /** True if the caller has said how many bytes these are. They are then reserved. */
  readonly reserved: boolean;
  readonly #context: number;
  readonly #wholeContext: boolean;
  readonly #maxSequences: number;
  readonly #shape: PageShape;
  readonly #draft: CausalDecoder | null;

  /** @throws ERR_ARGUMENT or ERR_RANGE if an option is invalid. */
  constructor(
    model: CausalDecoder,
    draft: CausalDecoder | null,
    shape: PageShape,
    { context, kvMemory, kvShare = usualShare, wholeContext = false }: RoomOptions,
    maxSequences: number,
  ) {
    if (context !== undefined) checkInteger("Engine", "context", context, 1);
    if (kvMemory !== undefined) checkInteger("Engine", "kvMemory", kvMemory, 1);
    checkNumber("Engine", "kvShare", kvShare, Number.MIN_VALUE, 1);
    this.#shape = shape;
    this.#draft = draft;
    this.#context = context ?? Infinity;
    this.#wholeContext = wholeContext;
    this.#maxSequences = maxSequences;
    this.reserved = kvMemory !== undefined;
    this.#bytes = kvMemory ?? Math.floor(kvShare * model.device.availableMemory());
  }

  /** Returns the pages and the context that a model has in this room. */
  for(model: CausalDecoder): Room {
    const { pageSize, kvType } = this.#shape;
    const stored = storedType(model.dtype, kvType);
    const bytes = bytesOfPage(model, this.#shape) + (this.#draft ? bytesOfPage(this.#draft, this.#shape) : 0);
    const context = Math.min(this.#context, model.config.contextLength);
    const pages = Math.floor(this.#bytes / bytes);
    if (this.reserved) {
      if (pages < 1)
        throw new HeedError(
          "ERR_RANGE",
          `Engine: expected kvMemory of at least ${bytes} bytes, which a page of ${pageSize} tokens needs, got ${this.#bytes}`,
        );
      return new Room({ ...this.#shape, first: pages, most: pages }, bytes, context, stored);
    }
    // More pages than all sequences have at the same time would hold only what has ended.
    const ofSequence = Math.ceil(context / pageSize);
    const least = Math.max(this.#maxSequences, this.#wholeContext ? ofSequence : 1);
    const most = Math.min(this.#maxSequences * ofSequence, Math.max(least, pages));
    return new Room({ ...this.#shape, first: Math.min(most, firstPages), most }, bytes, context, stored);
  }
}

/** The pages of a model's sequences, and how long these can be. */
export class Room {
  /** Largest number of tokens that the model sees. */
  readonly contextLength: number;
  /** True if there is too little memory for a longer context. */
  readonly limited: boolean;

  constructor(
    readonly pages: PageCounts,
    readonly bytesOfPage: number,
    context: number,
    /** Type in which keys and values are stored. */
    readonly kvType: FloatDType | "int8",
  ) {
    this.contextLength = Math.min(context, pages.most * pages.pageSize);
    this.limited = this.contextLength < context;
  }

  /** Largest number of bytes of keys and values. */
  get bytes(): number {
    return this.pages.most * this.bytesOfPage;
  }

  /** Returns the bytes that the keys and values of `tokens` tokens take. */
  bytesFor(tokens: number): number {
    return Math.ceil(tokens / this.pages.pageSize) * this.bytesOfPage;
  }

  /**
   * Throws if a sequence of `length` tokens can never fit.
   *
   * @param name what the error calls the sequence
   * @throws ERR_RANGE if the sequence is too long; the message says what it needs, and what there is.
   */
  check(op: string, name: string, length: number, advice = ""): void {
    const { contextLength } = this;
    if (length <= contextLength) return;
    throw new HeedError(
      "ERR_RANGE",
      `${op}: expected ${name} to fit into the context of ${contextLength} tokens, got ${length}${this.shortage(length)}${advice}`,
    );
  }

  /** Returns the end of a sentence about `length` tokens that do not fit: how much memory they need, if that is the reason. */
  shortage(length: number): string {
    if (!this.limited) return "";
    return `: their keys and values need ${this.bytesFor(length)} bytes, and there are ${this.bytes} for all sequences`;
  }
}

/** Memory for the keys and values of a model, which is made when it is first needed, and grows with the page table. */
export class KvMemory implements Disposable {
  readonly #model: CausalDecoder;
  readonly #counts: PageCounts;
  readonly #recorded: RecordedSteps;
  #pages: KvPages | null = null;

  /**
   * @param recorded steps over this memory. They end before it grows, because they hold what it was: there would be two
   *   whole copies, and the system would not get one of them back.
   */
  constructor(model: CausalDecoder, counts: PageCounts, recorded: RecordedSteps) {
    this.#model = model;
    this.#counts = counts;
    this.#recorded = recorded;
  }

  /** Number of pages that there are. */
  get count(): number {
    return this.#pages?.pages ?? 0;
  }

  /** Their bytes. */
  get bytes(): number {
    return this.#pages?.bytes ?? 0;
  }

  /** Returns the bytes that pages up to page number `last` take from the system; it gives others when they are written. */
  residentBytes(last: number): number {
    return this.#pages?.residentBytes(last + 1) ?? 0;
  }

  /**
   * Returns memory of at least `count` pages, with the content of the pages that there were. Memory that was returned
   * before is freed if there were fewer pages.
   */
  pages(count: number): KvPages {
    const old = this.#pages;
    if (old && old.pages >= count) return old;
    const { pageSize, kvType } = this.#counts;
    this.#pages = old ? this.#grown(old, count) : this.#model.createPages(count, pageSize, kvType);
    return this.#pages;
  }

  /**
   * Returns memory of `count` pages or more in place of a smaller one. A CPU has twice as many if the system allows it, so
   * that a page is copied about once in all: pages that were never written take no memory there.
   */
  #grown(old: KvPages, count: number): KvPages {
    this.#recorded.dispose();
    const most = this.#counts.most + 1;
    const twice = this.#model.device.kind === "cpu" ? Math.min(2 * old.pages, most) : count;
    if (twice <= count) return old.grown(count);
    try {
      return old.grown(twice);
    } catch (error) {
      if (!(error instanceof HeedError && error.code === "ERR_OOM")) throw error;
      return old.grown(count);
    }
  }

  /** Frees the memory. It is made again when it is needed. */
  dispose(): void {
    this.#pages?.dispose();
    this.#pages = null;
  }

  /** Does the same as `dispose()`, at the end of the block that declares it with `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}
