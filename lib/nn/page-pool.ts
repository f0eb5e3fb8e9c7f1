import { tensor } from "../core/creation.js";
import { cacheWrite } from "../ops/cache-write.js";
import { embedding } from "../ops/embedding.js";
import { reshape } from "../ops/views.js";
import { scope } from "../core/scope.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";
import type { LayerCache } from "./attention-cache.js";
import { KvPages, type KvPagesConfig } from "./kv-pages.js";

/** The first tokens of a page, which are copied to another page. */
export interface PageCopy {
  readonly from: number;
  readonly to: number;
  /** Number of tokens. */
  readonly tokens: number;
}

/** Returns copies [..., Hkv, D] of the tokens at places [...], which are counted over pages [N, S, Hkv, D]. */
export function tokensAt(pages: FloatTensor, places: IntTensor): FloatTensor {
  const [count, tokens, heads, size] = pages.shape as [number, number, number, number];
  const flat = reshape(pages, [count * tokens, heads * size]);
  return reshape(embedding(places, flat), [...places.shape, heads, size]);
}

/**
 * Pages of keys and values that the sequences of several caches share, and the number of sequences that use each page.
 * If every page is in use and one more is needed, there are twice as many afterwards. A cache that shares the pool calls
 * `open`, and `close` at its end; the last one frees the memory.
 */
export class PagePool {
  /** S, the number of tokens of a page. */
  readonly pageSize: number;
  #memory: KvPages;
  /** Number of sequences that use each page. */
  readonly #users: number[];
  readonly #free = new Set<number>();
  /** Number of pages that several sequences use. */
  #shared = 0;
  #caches = 0;

  /** Creates a pool, of whose pages each has one user. */
  constructor(config: Omit<KvPagesConfig, "kvType">) {
    this.#memory = new KvPages(config);
    this.pageSize = config.pageSize;
    this.#users = Array<number>(config.pages).fill(1);
  }

  /** Memory of the pages. It is replaced when there are more of them. */
  get memory(): KvPages {
    return this.#memory;
  }

  /** Keys and values of each layer, [N, S, Hkv, D]. */
  get layers(): readonly LayerCache[] {
    // They are no codes, since the configuration has no `kvType`.
    return this.#memory.layers as LayerCache[];
  }

  /** True if several sequences use the same page. */
  get shares(): boolean {
    return this.#shared > 0;
  }

  /** Returns true if several sequences use the page. */
  isShared(page: number): boolean {
    return this.#users[page]! > 1;
  }

  /** Returns a page for one user, if possible the one that follows page `after`. */
  take(after: number): number {
    if (this.#free.size === 0) this.#grow();
    const [first] = this.#free;
    const page = this.#free.has(after + 1) ? after + 1 : first!;
    this.#free.delete(page);
    this.#users[page] = 1;
    return page;
  }

  /** Adds a user to each of the pages. */
  hold(pages: readonly number[]): void {
    for (const page of pages) {
      const users = this.#users[page]! + 1;
      this.#users[page] = users;
      if (users === 2) this.#shared++;
    }
  }

  /** Removes a user of each of the pages. */
  release(pages: readonly number[]): void {
    for (const page of pages) {
      const users = this.#users[page]! - 1;
      this.#users[page] = users;
      if (users === 1) this.#shared--;
      if (users === 0) this.#free.add(page);
    }
  }

  /** Copies tokens from page to page. The copies are only enqueued. */
  copy(copies: readonly PageCopy[]): void {
    if (copies.length === 0) return;
    const { pageSize } = this;
    const most = Math.max(...copies.map(({ tokens }) => tokens));
    // Places that were never written are not read: a copy of fewer tokens repeats its last one.
    const places = copies.flatMap(({ from, tokens }) =>
      Array.from({ length: most }, (_, t) => from * pageSize + Math.min(t, tokens - 1)),
    );
    scope(() => {
      const ids = (values: readonly number[], shape: number[]): IntTensor =>
        tensor(Int32Array.from(values), shape, { device: this.layers[0]!.keys.device });
      const source = ids(places, [copies.length, most]);
      const target = ids(
        copies.map(({ to }) => to),
        [copies.length, 1],
      );
      for (const part of this.#memory.parts() as FloatTensor[]) cacheWrite(part, tokensAt(part, source), null, target);
    });
  }

  /** Counts one more cache that shares the pool. */
  open(): void {
    this.#caches++;
  }

  /** Counts one cache less, and frees the memory if none is left. */
  close(): void {
    if (--this.#caches === 0) this.#memory.dispose();
  }

  #grow(): void {
    const { pages } = this.#memory;
    this.#memory = this.#memory.grown(2 * pages);
    for (let page = pages; page < 2 * pages; page++) {
      this.#users[page] = 0;
      this.#free.add(page);
    }
  }
}
