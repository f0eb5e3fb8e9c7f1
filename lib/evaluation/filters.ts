import type { FilterStep } from "./task-fields.js";

/** Returns a generated text after the steps of a filter. */
export function filtered(text: string, steps: readonly FilterStep[]): string {
  return steps.reduce(applied, text);
}

function applied(text: string, step: FilterStep): string {
  switch (step.function) {
    case "regex":
      return matched(text, step);
    case "remove_whitespace":
      return text.trimStart();
    case "lowercase":
      return text.toLowerCase();
    case "uppercase":
      return text.toUpperCase();
    case "take_first":
      // A document has one generated text.
      return text;
  }
}

/**
 * Returns the match that `group` counts, from the end if it is negative. Of a match with groups, the first group that is
 * not empty counts.
 */
function matched(text: string, { pattern, group, fallback }: Extract<FilterStep, { function: "regex" }>): string {
  const match = [...text.matchAll(pattern)].at(group);
  if (!match) return fallback;
  const [whole, ...groups] = match;
  const found = groups.length === 0 ? whole : groups.find((part) => part !== undefined && part !== "");
  return (found ?? fallback).trim();
}
