import { checkInteger } from "../check.js";
import { HeedError } from "../errors.js";
import type { CausalDecoder } from "../models/causal-decoder.js";
import { bytesOfHead, type KvPages, type KvType } from "../nn/kv-pages.js";

/** Returns the bytes of a page of `pageSize` tokens. */
export function bytesOfPage(model: CausalDecoder, { pageSize, kvType }: PageShape): number {
  const { layers, kvHeads } = model.config;
  return 2 * layers * kvHeads * bytesOfHead(model.kvHeadSize, model.dtype, kvType) * pageSize;
}

/** Content of a page. */
export interface PageShape {
  /** Number of tokens. */
  readonly pageSize: number;
  /** "int8" if keys and values are stored in 8 bits, and null if they have the dtype of the model. */
  readonly kvType: KvType | null;
}

/** Pages of an engine's memory. */
export interface PageCounts extends PageShape {
  /** Number of pages at the beginning. */
  readonly first: number;
  /** Largest number of pages. */
  readonly most: number;
}

/**
 * Returns how many pages the memory of a model, and of the one that drafts for it, has. Without `kvMemory` in bytes, it
 * grows.
 *
 * @throws ERR_ARGUMENT or ERR_RANGE if `kvMemory` is no integer, or too small for one sequence.
 */
export function pageCounts(
  model: CausalDecoder,
  draft: CausalDecoder | null,
  shape: PageShape,
  kvMemory: number | undefined,
): PageCounts {
  const { contextLength } = model.config;
  const bytes = bytesOfPage(model, shape) + (draft ? bytesOfPage(draft, shape) : 0);
  const least = Math.ceil(contextLength / shape.pageSize);
  if (kvMemory === undefined) {
    const most = Math.max(least, Math.min(16 * least, Math.floor(2 ** 30 / bytes)));
    return { ...shape, first: Math.min(most, 8), most };
  }
  checkInteger("Engine", "kvMemory", kvMemory, 1);
  const pages = Math.floor(kvMemory / bytes);
  if (pages < least)
    throw new HeedError(
      "ERR_RANGE",
      `Engine: expected kvMemory of at least ${least * bytes} bytes, which a sequence of ${contextLength} tokens needs, got ${kvMemory}`,
    );
  return { ...shape, first: pages, most: pages };
}

/** Memory for the keys and values of a model, which is made when it is first needed, and grows with the page table. */
export class KvMemory implements Disposable {
  readonly #model: CausalDecoder;
  readonly #shape: PageShape;
  #pages: KvPages | null = null;

  constructor(model: CausalDecoder, shape: PageShape) {
    this.#model = model;
    this.#shape = shape;
  }

  /** Number of pages that there are. */
  get count(): number {
    return this.#pages?.pages ?? 0;
  }

  /** Their bytes. */
  get bytes(): number {
    return this.#pages?.bytes ?? 0;
  }

  /**
   * Returns memory of at least `count` pages, with the content of the pages that there were. Memory that was returned
   * before is freed if there were fewer pages.
   */
  pages(count: number): KvPages {
    const old = this.#pages;
    if (old && old.pages >= count) return old;
    const { pageSize, kvType } = this.#shape;
    this.#pages = old?.grown(count) ?? this.#model.createPages(count, pageSize, kvType);
    return this.#pages;
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
