import { strip } from "./python-strings.js";
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
      return strip(text);
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
 * Returns the match that `group` counts, from the end if it is negative. Of a match with a group, the group counts, and of
 * one with several, the first that is not empty.
 */
function matched(text: string, { pattern, group, fallback }: Extract<FilterStep, { function: "regex" }>): string {
  const match = pattern.matches(text).at(group);
  if (!match) return fallback;
  const { text: whole, groups } = match;
  if (groups.length === 0) return strip(whole);
  if (groups.length === 1) return strip(groups[0] ?? "");
  return strip(groups.find((part) => part !== null && part !== "") ?? fallback);
}
