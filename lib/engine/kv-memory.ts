import type { CausalDecoder } from "../models/causal-decoder.js";
import type { KvPages } from "../nn/kv-pages.js";
import { ops } from "../native.js";
import { narrow } from "../ops/views.js";
import { scope } from "../scope.js";

/** Returns the bytes of a page of `pageSize` tokens. */
export function bytesOfPage(model: CausalDecoder, pageSize: number): number {
  const { layers, kvHeads } = model.config;
  return 2 * layers * kvHeads * model.kvHeadSize * (model.dtype === "f32" ? 4 : 2) * pageSize;
}

/** Numbers of pages of an engine's memory. */
export interface PageCounts {
  readonly pageSize: number;
  /** Number of pages at the beginning. */
  readonly first: number;
  /** Largest number of pages. */
  readonly most: number;
}

/** Memory for the keys and values of a model, which is made when it is first needed, and grows with the page table. */
export class KvMemory implements Disposable {
  readonly #model: CausalDecoder;
  readonly #pageSize: number;
  #pages: KvPages | null = null;

  constructor(model: CausalDecoder, pageSize: number) {
    this.#model = model;
    this.#pageSize = pageSize;
  }

  /** Number of pages that there are. */
  get count(): number {
    return this.#pages?.pages ?? 0;
  }

  /**
   * Returns memory of at least `count` pages, with the content of the pages that there were. Memory that was returned
   * before is freed if there were fewer pages.
   */
  pages(count: number): KvPages {
    const old = this.#pages;
    if (old && old.pages >= count) return old;
    const pages = this.#model.createPages(count, this.#pageSize);
    if (old) {
      for (const [layer, { keys, values }] of old.layers.entries()) {
        const into = pages.layers[layer]!;
        scope(() => {
          ops.copy({ out: narrow(into.keys, 0, 0, old.pages), inp: keys });
          ops.copy({ out: narrow(into.values, 0, 0, old.pages), inp: values });
        });
      }
      old.dispose();
    }
    this.#pages = pages;
    return pages;
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
