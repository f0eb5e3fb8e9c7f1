// The bytes with which the options of a choice begin. A character of a set is a choice of dozens of texts, and a state is
// made wherever one may follow: what is found here once need not be found again for each of them.
import type { Choice, Expression } from "./expression.js";

/** An option that begins with a byte. */
interface Start {
  readonly low: number;
  readonly high: number;
  /** The byte and what comes after it; null if nothing does. */
  readonly parts: readonly Expression[] | null;
}

/** The options of a choice. */
export interface FirstBytes {
  readonly starts: readonly Start[];
  /** Options that begin with anything else. */
  readonly others: readonly Expression[];
  /** Starts by their bytes, if there are many of them. Neighbours with the same ones share a list. */
  readonly byByte: readonly (readonly Start[])[] | null;
}

/** Fewest options of a choice for which it is worth while, and fewest starts that are sorted by their bytes. */
const fewest = 4;
const many = 16;

const known = new WeakMap<Choice, FirstBytes>();

/** Returns the bytes with which the options begin, or null if there are few of them. */
export function firstBytes(of: Choice): FirstBytes | null {
  if (of.options.length < fewest) return null;
  let found = known.get(of);
  if (!found) known.set(of, (found = find(of)));
  return found;
}

function find({ options }: Choice): FirstBytes {
  const starts: Start[] = [];
  const others: Expression[] = [];
  for (const option of options) {
    const first = option.kind === "sequence" ? option.parts[0] : option;
    if (first?.kind !== "byte") others.push(option);
    else starts.push({ low: first.low, high: first.high, parts: option.kind === "sequence" ? option.parts : null });
  }
  return { starts, others, byByte: starts.length < many ? null : sorted(starts) };
}

function sorted(starts: readonly Start[]): readonly (readonly Start[])[] {
  const changes = new Set(starts.flatMap(({ low, high }) => [low, high + 1]));
  const lists: Start[][] = [[]];
  const byByte = Array.from({ length: 256 }, (_, one) => {
    if (changes.has(one)) lists.push([]);
    return lists.at(-1)!;
  });
  // A list is filled once, at the first of its bytes.
  for (const start of starts)
    for (let one = start.low; one <= start.high; one++)
      if (one === 0 || byByte[one] !== byByte[one - 1]) byByte[one]!.push(start);
  return byByte;
}

/** Narrows a range of bytes around `one` to those with which the same options begin as with `one`. */
export function narrowAlike({ starts, byByte }: FirstBytes, one: number, range: { low: number; high: number }): void {
  if (!byByte) {
    for (const start of starts) narrow(start, one, range);
    return;
  }
  const same = byByte[one];
  let [low, high] = [one, one];
  while (low > range.low && byByte[low - 1] === same) low--;
  while (high < range.high && byByte[high + 1] === same) high++;
  [range.low, range.high] = [low, high];
}

/** Narrows a range of bytes around `one` to those that are on the same side of the bounds of another range. */
export function narrow(other: { low: number; high: number }, one: number, range: { low: number; high: number }): void {
  if (one < other.low) range.high = Math.min(range.high, other.low - 1);
  else if (one > other.high) range.low = Math.max(range.low, other.high + 1);
  else {
    range.low = Math.max(range.low, other.low);
    range.high = Math.min(range.high, other.high);
  }
}

/** Returns the starts among which are all those of a byte. */
export function startsAt({ starts, byByte }: FirstBytes, one: number): readonly Start[] {
  return byByte ? byByte[one]! : starts;
}
