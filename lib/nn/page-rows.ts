import { tensor } from "../core/creation.js";
import { narrow } from "../ops/views.js";
import { allocate, type FloatTensor, type IntTensor } from "../core/tensor.js";
import type { LayerCache } from "./attention-cache.js";
import type { KvPages, KvPagesConfig } from "./kv-pages.js";
import { type PageCopy, PagePool, tokensAt } from "./page-pool.js";

/** Largest number of tokens of a page: a step of keys of the CPU's attention, which then lies in one page. */
const mostTokens = 32;

/** Keys and values of each layer as operations take them. */
export interface Operands {
  /** Keys and values [N, S, Hkv, D], or [B, Tmax, Hkv, D] without a table. */
  readonly layers: readonly LayerCache[];
  /** Pages of each sequence, i32 [B, P]; null if each sequence is one piece of memory. */
  readonly pages: IntTensor | null;
}

/** Sizes of the memory for B sequences of up to Tmax tokens. */
interface RowsConfig extends Omit<KvPagesConfig, "pages" | "pageSize" | "kvType"> {
  readonly batch: number;
  readonly length: number;
}

/**
 * Pages of the sequences of a cache. At first each sequence has all pages that it may need, one after the other, and
 * operations see one piece of memory. Sequences that share pages with others get further ones as they grow, and
 * operations find them by a table.
 */
export class PageRows {
  readonly #pool: PagePool;
  /** Pages of each sequence, which hold its tokens and may have room for more. */
  readonly #pages: number[][];
  /** Tmax, the largest number of tokens of a sequence. */
  readonly #length: number;
  /** True if each sequence is one piece of memory with room for all its tokens. */
  #whole: boolean;
  /** Views of such pieces, and the memory that they belong to. */
  #pieces: { readonly memory: KvPages; readonly layers: readonly LayerCache[] } | null = null;
  // A recorded pass reads the same table every time.
  #table: IntTensor | null = null;
  /** True if the table does not have the pages that the sequences have. */
  #stale = true;

  private constructor(pool: PagePool, pages: number[][], length: number, whole: boolean) {
    this.#pool = pool;
    this.#pages = pages;
    this.#length = length;
    this.#whole = whole;
    pool.open();
  }

  /** Creates memory for empty sequences. */
  static of({ batch, length, ...sizes }: RowsConfig): PageRows {
    const pageSize = Math.min(length, mostTokens);
    const columns = Math.ceil(length / pageSize);
    const pages = Array.from({ length: batch }, (_, row) =>
      Array.from({ length: columns }, (_, column) => row * columns + column),
    );
    return new PageRows(new PagePool({ ...sizes, pages: batch * columns, pageSize }), pages, length, true);
  }

  /** Returns the sequences rows[0], rows[1], …, with the pages that hold their first lengths[i] tokens. */
  take(rows: ArrayLike<number>, lengths: ArrayLike<number>): PageRows {
    const pages = Array.from(rows, (row, i) => this.#pages[row]!.slice(0, this.#count(lengths[i]!)));
    for (const own of pages) this.#pool.hold(own);
    return new PageRows(this.#pool, pages, this.#length, false);
  }

  /** Keys and values as operations take them. Call `makeRoom` first. */
  get operands(): Operands {
    return this.#whole ? { layers: this.#views(), pages: null } : { layers: this.#pool.layers, pages: this.#table };
  }

  /**
   * Gives every sequence, of which lengths[b] tokens are written, pages for `tokens` further tokens that no other
   * sequence uses. A page that others use and that has tokens of the sequence is copied.
   */
  makeRoom(lengths: ArrayLike<number>, tokens: number): void {
    if (this.#whole && !this.#pool.shares) return;
    const copies: PageCopy[] = [];
    try {
      for (const row of this.#pages.keys()) this.#own(row, lengths[row]!, lengths[row]! + tokens, copies);
    } finally {
      // If there is no memory for a sequence, those before it already have other pages.
      this.#pool.copy(copies);
      this.#upload();
    }
  }

  /** Returns keys and values of the operands for one sequence, with a batch of 1, and pages for `tokens` new tokens. */
  emptied(row: number, tokens: number): Operands {
    this.#own(row, 0, tokens, []);
    this.#upload();
    const { layers, pages } = this.operands;
    if (pages) return { layers, pages: narrow(pages, 0, row, 1) };
    return { layers: layers.map((layer) => both(layer, (part) => narrow(part, 0, row, 1))), pages: null };
  }

  /**
   * Returns the first `used` tokens of all sequences as views [B, used, Hkv, D], or null if the sequences do not lie
   * equally far apart, in one piece each. Each must have pages for so many tokens.
   */
  viewed(layer: number, used: number): LayerCache | null {
    const pages = this.#pages;
    const first = pages[0]![0]!;
    const apart = pages.length > 1 ? pages[1]![0]! - first : 0;
    const count = this.#count(used);
    const inPlace = (own: number[], row: number): boolean => {
      for (let i = 0; i < count; i++) if (own[i] !== first + row * apart + i) return false;
      return true;
    };
    if (apart < 0 || !pages.every(inPlace)) return null;
    return both(this.#pool.layers[layer]!, (part) => this.#pieceOf(part, first, apart, used));
  }

  /** Returns copies [..., Hkv, D] of the keys and values of token t of sequence b, where [b, t] is `place` of 0, 1, …. */
  gathered(layer: number, shape: readonly number[], place: (i: number) => readonly [number, number]): LayerCache {
    const { pageSize } = this.#pool;
    const count = shape.reduce((product, size) => product * size, 1);
    const places = Int32Array.from({ length: count }, (_, i) => {
      const [row, token] = place(i);
      return this.#pages[row]![Math.floor(token / pageSize)]! * pageSize + (token % pageSize);
    });
    const ids = tensor(places, shape, { device: this.#device });
    return both(this.#pool.layers[layer]!, (part) => tokensAt(part, ids));
  }

  /** Gives the pages back. */
  dispose(): void {
    if (this.#pages.length === 0) return;
    this.#table?.dispose();
    this.#forgetViews();
    for (const pages of this.#pages) this.#pool.release(pages);
    this.#pages.length = 0;
    this.#pool.close();
  }

  get #device() {
    return this.#pool.layers[0]!.keys.device;
  }

  /** Returns the number of pages that hold `tokens` tokens. */
  #count(tokens: number): number {
    return Math.ceil(tokens / this.#pool.pageSize);
  }

  /**
   * Gives a sequence pages for its tokens `from` to before `end` that no other sequence uses. `copies` receives what
   * has to be copied: the tokens before `from` in a page that others use too.
   */
  #own(row: number, from: number, end: number, copies: PageCopy[]): void {
    const pool = this.#pool;
    const pages = this.#pages[row]!;
    for (let i = Math.floor(from / pool.pageSize); i < this.#count(end); i++) {
      const page = pages[i];
      if (page !== undefined && !pool.isShared(page)) continue;
      const own = pool.take(pages[i - 1] ?? -1);
      pages[i] = own;
      this.#stale = true;
      if (page === undefined) continue;
      pool.release([page]);
      this.#whole = false;
      const tokens = from - i * pool.pageSize;
      if (tokens > 0) copies.push({ from: page, to: own, tokens });
    }
  }

  /** Uploads the table if it is needed and pages have changed. Nothing can be uploaded while a pass is recorded. */
  #upload(): void {
    if (this.#whole || !this.#stale) return;
    const columns = this.#count(this.#length);
    this.#table ??= allocate([this.#pages.length, columns], "i32", this.#device, false);
    const table = new Int32Array(this.#table.size).fill(-1);
    for (const [row, pages] of this.#pages.entries()) table.set(pages, row * columns);
    this.#table.set(table);
    this.#stale = false;
  }

  /** Returns views of sequences that are one piece each, [B, Tmax, Hkv, D]. */
  #views(): readonly LayerCache[] {
    const { memory, layers } = this.#pool;
    if (this.#pieces?.memory !== memory) {
      this.#forgetViews();
      const [first] = this.#pages as [number[]];
      const view = (part: FloatTensor): FloatTensor =>
        this.#pieceOf(part, first[0]!, first.length, this.#length, false);
      this.#pieces = { memory, layers: layers.map((layer) => both(layer, view)) };
    }
    return this.#pieces.layers;
  }

  #forgetViews(): void {
    for (const { keys, values } of this.#pieces?.layers ?? []) {
      keys.dispose();
      values.dispose();
    }
    this.#pieces = null;
  }

  /** Returns `tokens` tokens of each sequence, of which the first begins at page `first`, and each `apart` pages later. */
  #pieceOf(part: FloatTensor, first: number, apart: number, tokens: number, scoped = true): FloatTensor {
    const [, pageSize, heads, size] = part.shape as [number, number, number, number];
    const page = pageSize * heads * size;
    const strides = [apart * page, heads * size, size, 1];
    return part.viewAs([this.#pages.length, tokens, heads, size], strides, first * page, scoped);
  }
}

/** Returns what a function makes of keys and of values. */
function both({ keys, values }: LayerCache, of: (part: FloatTensor) => FloatTensor): LayerCache {
  return { keys: of(keys), values: of(values) };
}
