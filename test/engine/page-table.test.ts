import { describe, expect, test } from "vitest";
import { PageTable } from "../../lib/engine/page-table.js";
import { Random } from "../support/random.js";

describe("PageTable", () => {
  test("pages are given out once, and come back when their last user leaves", () => {
    const table = new PageTable(3, 4);
    const pages = [table.allocate(), table.allocate(), table.allocate()] as number[];
    expect([...pages].sort()).toEqual([1, 2, 3]);
    expect(table.allocate()).toBe(null);
    table.release(pages[1]!);
    expect(table.available).toBe(1);
    expect(table.allocate()).toBe(pages[1]);
  });

  test("full pages are found by all tokens up to their end", () => {
    const table = new PageTable(8, 2);
    const tokens = [1, 2, 3, 4, 5];
    const pages = [table.allocate()!, table.allocate()!];
    for (const index of [0, 1]) table.register(tokens, pages, index);
    expect(table.find([1, 2, 3, 4, 9, 9], 9)).toEqual(pages);
    expect(table.find([1, 2, 3, 4, 9, 9], 1)).toEqual([pages[0]]);
    expect(table.find([1, 2, 3, 5], 9)).toEqual([pages[0]]);
    expect(table.find([3, 4, 3, 4], 9)).toEqual([]);
    expect(table.shared).toBe(2);
  });

  test("a copy of a shared page counts as the same beginning", () => {
    const table = new PageTable(8, 2);
    const first = [table.allocate()!];
    const second = [table.allocate()!, table.allocate()!];
    table.register([1, 2], first, 0);
    for (const index of [0, 1]) table.register([1, 2, 3, 4], second, index);
    expect(table.find([1, 2, 3, 4], 9)).toEqual([first[0], second[1]]);
  });

  test("cached pages without a user are kept, and the least recently used one goes first", () => {
    const table = new PageTable(3, 1);
    const pages = [7, 8, 9].map((token) => {
      const page = table.allocate()!;
      table.register([token], [page], 0);
      return page;
    });
    for (const page of pages) table.release(page);
    expect(table.available).toBe(3);
    for (const page of table.find([7], 1)) table.release(page); // 8 is now the oldest
    expect(table.allocate()).toBe(pages[1]);
    expect(table.find([8], 1)).toEqual([]);
    expect(table.find([7], 1)).toEqual([pages[0]]);
  });

  test("random sequences: no page has two contents, none is lost", () => {
    const random = new Random(4);
    for (let round = 0; round < 20; round++) {
      const size = random.integer(3) + 1;
      const table = new PageTable(random.integer(12) + 2, size);
      // What each page holds, by the test's own account.
      const holds = new Map<number, string>();
      const live: { tokens: number[]; pages: number[] }[] = [];
      for (let step = 0; step < 300; step++) {
        if (live.length > 0 && random.integer(3) === 0) {
          const [one] = live.splice(random.integer(live.length), 1);
          for (const page of one!.pages.toReversed()) table.release(page);
        } else {
          const tokens = Array.from({ length: random.integer(4 * size) + 1 }, () => random.integer(2));
          const prefix = (index: number): string => tokens.slice(0, (index + 1) * size).join();
          const pages = table.find(tokens, Math.floor((tokens.length - 1) / size));
          for (const [index, page] of pages.entries()) expect(holds.get(page)).toBe(prefix(index));
          let fits = true;
          while (fits && pages.length * size < tokens.length) {
            const page = table.allocate();
            fits = page !== null;
            if (page === null) break;
            for (const other of live) expect(other.pages).not.toContain(page);
            expect(pages).not.toContain(page);
            holds.delete(page);
            pages.push(page);
          }
          for (let index = 0; (index + 1) * size <= tokens.length && index < pages.length; index++) {
            holds.set(pages[index]!, prefix(index));
            table.register(tokens, pages, index);
          }
          live.push({ tokens, pages });
        }
        expect(table.used).toBe(new Set(live.flatMap(({ pages }) => pages)).size);
        if (random.integer(100) === 0) table.clear();
      }
      for (const { pages } of live) for (const page of pages) table.release(page);
      expect(table.available).toBe(table.pages);
    }
  });

  test("tokens that are looked up again, and grow, find what is cached now", () => {
    const random = new Random(6);
    for (let round = 0; round < 20; round++) {
      const size = random.integer(2) + 1;
      const most = random.integer(10) + 4;
      const table = new PageTable(most, size);
      const sequences = Array.from({ length: 4 }, () => Array.from({ length: 3 * size }, () => random.integer(2)));
      for (let step = 0; step < 200; step++) {
        const tokens = sequences[random.integer(4)]!;
        const root = String(random.integer(2));
        const count = Math.floor(tokens.length / size);
        const pages = table.find(tokens, count, root);
        // A copy has been looked up by nobody.
        const again = table.find([...tokens], count, root);
        expect(again).toEqual(pages);
        for (const page of again) table.release(page);
        for (let page = table.allocate(); page !== null; page = table.allocate()) {
          pages.push(page);
          if (pages.length <= count) table.register(tokens, pages, pages.length - 1, root);
          if (random.integer(2) === 0) break;
        }
        for (const page of pages.toReversed()) table.release(page);
        if (random.integer(3) === 0) tokens.push(random.integer(2));
        if (random.integer(50) === 0) table.clear();
      }
      expect(table.available).toBe(most);
    }
  });
});
