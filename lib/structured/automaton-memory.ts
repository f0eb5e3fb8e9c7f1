// The memory that the automata of all vocabularies take together. Their states refer to the formats that they were made
// for, which format-cache.ts counts.
import type { Expression } from "./expression.js";

/** Bytes that all automata may take. */
export const mostTotal = 40 * 2 ** 20;

/** An automaton, as far as its memory is concerned. */
interface Sized {
  readonly bytes: number;
  /** Formats to which the states refer. */
  readonly formats: ReadonlySet<Expression>;
  forget(): void;
}

/** Automata that exist. Those that nobody uses are not kept. */
let all: WeakRef<Sized>[] = [];

/** Counts the memory of an automaton from now on. */
export function countMemory(one: Sized): void {
  all = [...all.filter((ref) => ref.deref() !== undefined), new WeakRef(one)];
}

/** Returns the automata that exist. */
export function automata(): Sized[] {
  return all.map((ref) => ref.deref()).filter((one) => one !== undefined);
}

/** Returns the largest automaton but this one, if all take more than `most` bytes together; otherwise null. */
export function largestOther(one: Sized, most: number): Sized | null {
  if (all.length < 2) return null;
  let [total, largest]: [number, Sized | null] = [0, null];
  for (const ref of all) {
    const other = ref.deref();
    if (!other) continue;
    total += other.bytes;
    if (other !== one && other.bytes > (largest?.bytes ?? 0)) largest = other;
  }
  return total > most ? largest : null;
}
