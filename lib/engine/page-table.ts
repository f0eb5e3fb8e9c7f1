// Which pages of KV memory are in use, and by how many requests; and which pages hold the keys and values of which
// tokens, so that requests with the same beginning share them. This file knows no tensors.
import { append } from "../util/append.js";

/** A full page whose tokens are known, in a tree by prefixes: its parent holds the tokens before it. */
interface CachedPage {
  readonly page: number;
  /** Number of this content, which keys of later pages contain. */
  readonly content: number;
  readonly key: string;
}

/** Number of a page that belongs to no request; rows of a step that belong to none write to it. */
export const idlePage = 0;

/**
 * Reference counts of pages, and the prefix cache: full pages are found again by all tokens up to their end. A page
 * without a user keeps its content until its memory is needed; the least recently used page goes first.
 */
export class PageTable {
  readonly pageSize: number;
  /** Largest number of pages. */
  most: number;
  /** Number of pages that there are now. Their numbers begin after `idlePage`. */
  pages = 0;
  /** Largest number of a page that was ever given out. */
  highest = idlePage;
  readonly #free: number[] = [];
  readonly #users: Int32Array;
  /** Cached pages by the content number of the page before them and their own tokens. */
  readonly #byKey = new Map<string, CachedPage>();
  /** Content of each page that is cached. */
  readonly #cached = new Map<number, CachedPage>();
  /** Cached pages without a user, the least recently used first. */
  readonly #idle = new Set<number>();
  /** Number of what each page holds, if it is full and its tokens are known; otherwise -1. */
  readonly #contentOf: Int32Array;
  /**
   * Cached pages that were found for tokens: answers to one prompt share their tokens, and thousands of them would
   * otherwise each make the keys of a long prompt's pages.
   */
  readonly #found = new WeakMap<readonly number[], { readonly root: string; readonly path: CachedPage[] }>();
  #contents = 0;

  /** Creates a table of `pages` pages, which may grow to `most` pages. */
  constructor(pages: number, pageSize: number, most = pages) {
    this.most = most;
    this.pageSize = pageSize;
    this.#users = new Int32Array(most + 1);
    this.#contentOf = new Int32Array(most + 1).fill(-1);
    this.#add(pages);
  }

  /** Number of pages that some request uses. */
  get used(): number {
    return this.pages - this.available;
  }

  /** Number of pages that more than one request uses. */
  get shared(): number {
    return this.#users.reduce((sum, users) => sum + (users > 1 ? 1 : 0), 0);
  }

  /** Number of pages that nobody uses; some of them may be cached. */
  get available(): number {
    return this.#free.length + this.#idle.size;
  }

  /**
   * Adds pages, as far as it may grow: an eighth of those that there are, so that hardly any memory is written in vain.
   * Returns false if it may not.
   */
  grow(): boolean {
    if (this.pages === this.most) return false;
    this.#add(Math.min(this.pages + Math.max(8, Math.ceil(this.pages / 8)), this.most));
    return true;
  }

  /** Returns a page for a new user, or null if all are in use. Its content is undefined. */
  allocate(): number | null {
    let page = this.#free.pop();
    if (page === undefined) {
      const [oldest] = this.#idle;
      if (oldest === undefined) return null;
      this.#forget(oldest);
      page = oldest;
    }
    this.#users[page] = 1;
    this.#contentOf[page] = -1;
    this.highest = Math.max(this.highest, page);
    return page;
  }

  /** Removes one user of a page. */
  release(page: number): void {
    if (--this.#users[page]! > 0) return;
    if (this.#cached.has(page)) this.#idle.add(page);
    else this.#free.push(page);
  }

  /**
   * Returns the cached pages that hold the beginning of `tokens`, at most `most` of them, and adds a user to each. Only
   * sequences of the same `root` share pages. Tokens may be added to `tokens` afterwards, but not changed.
   */
  find(tokens: readonly number[], most: number, root = ""): number[] {
    const path = this.#knownPath(tokens, root);
    while (path.length < most) {
      const parent = path.at(-1)?.content ?? rootKey(root);
      const cached = this.#byKey.get(this.#key(parent, tokens, path.length));
      if (!cached) break;
      path.push(cached);
    }
    const found = path.slice(0, most).map(({ page }) => page);
    for (const page of found) {
      this.#idle.delete(page);
      this.#users[page]!++;
    }
    return found;
  }

  /**
   * Notes that page number `index` of a sequence, `pages[index]`, is full, so that others can share it. Another page
   * that holds the same tokens stays the shared one.
   */
  register(tokens: readonly number[], pages: readonly number[], index: number, root = ""): void {
    const page = pages[index]!;
    const parent = index === 0 ? rootKey(root) : this.#contentOf[pages[index - 1]!]!;
    // Without a number for the page before it, a page cannot be told from others with the same tokens.
    if (typeof parent === "number" && parent < 0) return;
    const key = this.#key(parent, tokens, index);
    const same = this.#byKey.get(key);
    this.#contentOf[page] = same?.content ?? this.#contents++;
    if (same) return;
    const cached = { page, content: this.#contentOf[page], key };
    this.#byKey.set(key, cached);
    this.#cached.set(page, cached);
  }

  /** Forgets what pages hold. */
  clear(): void {
    append(this.#free, this.#idle);
    this.#idle.clear();
    this.#cached.clear();
    this.#byKey.clear();
    this.#contentOf.fill(-1);
  }

  /** Lowers the number of pages for good. No page may have a user. */
  limit(pages: number): void {
    this.clear();
    this.#free.length = 0;
    this.pages = 0;
    this.most = pages;
    this.#add(pages);
  }

  /** Returns the pages that were found for these tokens, as far as they are still cached. */
  #knownPath(tokens: readonly number[], root: string): CachedPage[] {
    const known = this.#found.get(tokens);
    const path = known?.root === root ? known.path : [];
    if (path !== known?.path) this.#found.set(tokens, { root, path });
    const gone = path.findIndex((cached) => this.#byKey.get(cached.key) !== cached);
    if (gone >= 0) path.length = gone;
    return path;
  }

  #add(pages: number): void {
    for (let page = pages; page > this.pages; page--) this.#free.push(idlePage + page);
    this.pages = pages;
  }

  #forget(page: number): void {
    this.#byKey.delete(this.#cached.get(page)!.key);
    this.#cached.delete(page);
    this.#idle.delete(page);
  }

  #key(parent: string | number, tokens: readonly number[], index: number): string {
    return `${parent}:${tokens.slice(index * this.pageSize, (index + 1) * this.pageSize).join()}`;
  }
}

/** Returns what keys of first pages have in place of the number of a page before them. */
function rootKey(root: string): string {
  return `root ${root}`;
}
