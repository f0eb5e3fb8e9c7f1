// Sets of texts as languages, which text-language.ts makes.
import type { Characters } from "./characters.js";

/** A set of texts. */
export interface Language {
  readonly id: number;
  readonly kind: "characters" | "empty" | "sequence" | "either" | "both" | "not" | "repeat";
  /** True if the empty text is in it. */
  readonly nullable: boolean;
  readonly parts: readonly Language[];
  readonly of: Characters;
  readonly least: number;
  readonly most: number;
  /** Sets of first characters after which the same is left, and what is left; null until it is asked for. */
  steps: readonly Step[] | null;
}

/** Characters after which the same language is left. */
export interface Step {
  readonly of: Characters;
  readonly after: Language;
}

/** Returns true for characters of a set that are repeated: to count them needs no states. */
export function isRepetition({ kind, parts }: Language): boolean {
  return kind === "repeat" && parts[0]!.kind === "characters";
}
