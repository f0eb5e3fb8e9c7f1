// The pages of a sequence: they grow with its tokens, and full ones are shared through the page table's prefix cache.
import type { PageTable } from "./page-table.js";
import type { Request } from "./request.js";

/** Returns how many pages a request lacks for `count` more tokens. */
export function missingPages(table: PageTable, { computed, pages }: Request, count: number): number {
  return Math.ceil((computed + count) / table.pageSize) - pages.length;
}

/** Gives a request pages for `count` more tokens. Returns false if there are not enough; it then has some of them. */
export function reservePages(table: PageTable, request: Request, count: number): boolean {
  while (missingPages(table, request, count) > 0) {
    const page = table.allocate();
    if (page === null) return false;
    request.pages.push(page);
  }
  return true;
}

/** Takes over the pages that the prefix cache has for a request. At least one token stays to be computed. */
export function reusePages(table: PageTable, request: Request): void {
  request.pages = table.find(request.visible, Math.floor((request.length - 1) / table.pageSize), request.root);
  request.computed = request.pages.length * table.pageSize;
  request.registered = request.pages.length;
}

/** Lets others share the pages of a request that are full, as far as their tokens are known. */
export function sharePages(table: PageTable, request: Request): void {
  const known = Math.min(request.computed, request.length);
  for (; (request.registered + 1) * table.pageSize <= known; request.registered++)
    table.register(request.visible, request.pages, request.registered, request.root);
}

/** Takes the pages of a request, which is then computed from the beginning. */
export function freePages(table: PageTable, request: Request): void {
  // The last pages are used again first, so that beginnings, which others may share, stay longest.
  for (const page of request.pages.toReversed()) table.release(page);
  request.pages = [];
  request.computed = 0;
  request.registered = 0;
}
