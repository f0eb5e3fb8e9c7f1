import type { Component } from "./data.js";
import type { Stack } from "./stacks.js";

/** Part of a model that a page lists, by the place of its stack among all. */
export interface Part {
  stack: Stack;
  index: number;
  layer: number;
  /** Index of the head; null for the feed-forward layer of the block. */
  head: number | null;
}

/** Returns the heads and the feed-forward layers of all stacks. `heads` has the number of heads of each stack. */
export function partsOf(stacks: readonly Stack[], heads: readonly number[]): Part[] {
  return stacks.flatMap((stack, index) =>
    Array.from({ length: stack.layers }, (_, layer) => [
      ...Array.from({ length: heads[index]! }, (_, head): Part => ({ stack, index, layer, head })),
      ...(stack.hasMlp ? [{ stack, index, layer, head: null }] : []),
    ]).flat(),
  );
}

/** Returns numbers with four significant digits. */
export function rounded(values: Iterable<number>): number[] {
  return Array.from(values, (value) => Number(value.toPrecision(4)));
}

/** Returns a part as the page names it. */
export function componentOf({ stack, index, layer, head }: Part): Component {
  const where = stack.prefix === "blocks" ? "" : `${stack.title}, `;
  const name = `${where}layer ${layer}, ${head === null ? "MLP" : `head ${head}`}`;
  return { name, attention: index, layer, head };
}
