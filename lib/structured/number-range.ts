// Numbers between two bounds, digit by digit. A bound is compared as a decimal number; numbers have so few digits that
// two different ones are different in JavaScript, too.
import type { Steps } from "../util/turns.js";
import {
  byte,
  choice,
  choiceOf,
  empty,
  type Expression,
  literal,
  never,
  repeat,
  rule,
  sequence,
} from "./expression.js";
import { isPauseDue, spend } from "./work.js";

const digit = byte(0x30, 0x39);

/** Most significant digits of a number, so that no two of them are rounded to the same one. */
const mostDigits = 15;

/** Largest remainder class whose multiples are found digit by digit. */
const mostRemainders = 256;

/** One end of a range of numbers. */
export interface Bound {
  readonly value: number;
  /** True if the value itself lies outside. */
  readonly open: boolean;
}

/** A number of at least 0 as its digits before and after the point. */
interface Decimal {
  readonly whole: string;
  readonly fraction: string;
}

/** Range of numbers of at least 0. */
interface Range {
  readonly low: Decimal;
  readonly lowOpen: boolean;
  readonly high: Decimal;
  readonly highOpen: boolean;
}

const zero: Decimal = { whole: "0", fraction: "" };

/** Returns a number of at least 0, without an exponent. */
function decimalOf(value: number): Decimal {
  // The shortest digits that stand for the number; those of a whole number are exact.
  if (Number.isInteger(value)) return { whole: BigInt(value).toString(), fraction: "" };
  const [digits, exponent = "0"] = String(value).split("e") as [string, string?];
  const [whole, fraction = ""] = digits.split(".") as [string, string?];
  const shift = Number(exponent);
  return shift >= 0
    ? { whole, fraction }
    : { whole: "0", fraction: "0".repeat(-shift - whole.length) + whole + fraction };
}

/**
 * Returns the integers between two bounds that are multiples of a number, written without a fraction. It returns null if
 * there is no way to find the multiples.
 */
export function* integersBetween(low: Bound, high: Bound, multipleOf = 1): Steps<Expression | null> {
  const first = Math.ceil(low.value);
  const last = Math.floor(high.value);
  const least = first === low.value && low.open ? nextInteger(first) : first;
  const most = last === high.value && high.open ? previousInteger(last) : last;
  if (least > most) return never;
  const natural = most >= 0 ? yield* naturalsBetween(Math.max(0, least), most, multipleOf) : never;
  const negative = least < 0 ? yield* naturalsBetween(Math.max(1, -most), -least, multipleOf) : never;
  return natural && negative && choice(negative === never ? never : sequence(literal("-"), negative), natural);
}

function nextInteger(value: number): number {
  if (value === -Infinity) return value;
  if (Math.abs(value) < Number.MAX_SAFE_INTEGER) return value + 1;
  let [step, next] = [1, value];
  while (next === value) next = value + (step *= 2);
  return next;
}

function previousInteger(value: number): number {
  return -nextInteger(-value);
}

/** Returns the whole numbers of at least 0 between two, which are included. */
function* naturalsBetween(low: number, high: number, multipleOf: number): Steps<Expression | null> {
  const least = BigInt(low).toString();
  const limit = "9".repeat(Math.max(mostDigits, least.length + 1));
  const most = high === Infinity || BigInt(high) > BigInt(limit) ? limit : BigInt(high).toString();
  let [step, zeros] = [multipleOf, 0];
  while (step % 10 === 0 && step > 0) [step, zeros] = [step / 10, zeros + 1];
  if (step > mostRemainders) return null;
  const options: Expression[] = [];
  for (let { length } = least; length <= most.length; length++) {
    const from = length === least.length ? least : `1${"0".repeat(length - 1)}`;
    const to = length === most.length ? most : "9".repeat(length);
    options.push(yield* digitsBetween(from, to, step, zeros));
  }
  return choiceOf(options);
}

/** Returns the digits from `low` to `high`, which have the same length, whose number is a multiple of step · 10^zeros. */
function* digitsBetween(low: string, high: string, step: number, zeros: number): Steps<Expression> {
  const { length } = low;
  const known = new Map<string, Expression>();
  function* rest(at: number, remainder: number, tightLow: boolean, tightHigh: boolean): Steps<Expression> {
    if (at === length) return remainder === 0 ? empty : never;
    if (!tightLow && !tightHigh && step === 1 && zeros === 0) return repeat(digit, length - at, length - at);
    const key = `${at},${remainder},${tightLow},${tightHigh}`;
    const found = known.get(key);
    if (found) return found;
    spend(4);
    if (isPauseDue()) yield;
    const from = tightLow ? Number(low[at]) : 0;
    const to = tightHigh ? Number(high[at]) : 9;
    const isZero = at >= length - zeros;
    const last = isZero ? Math.min(0, to) : to;
    const after: Expression[] = [];
    for (let one = from; one <= last; one++) {
      const next = isZero ? remainder : (10 * remainder + one) % step;
      after[one] = yield* rest(at + 1, next, tightLow && one === from, tightHigh && one === to);
    }
    const made = digitOptions(from, last, (one) => after[one]!);
    known.set(key, made);
    return made;
  }
  return yield* rest(0, 0, true, true);
}

/** Returns one of the digits between two, each with what follows it. */
function digitOptions(from: number, to: number, after: (one: number) => Expression): Expression {
  const options: Expression[] = [];
  let [first, rest]: [number, Expression | null] = [from, null];
  for (let one = from; one <= to + 1; one++) {
    const next = one <= to ? after(one) : null;
    if (rest && next !== rest) options.push(sequence(byte(0x30 + first, 0x30 + one - 1), rest));
    if (next !== rest) [first, rest] = [one, next];
  }
  const made = choiceOf(options);
  // A rule is found again, however many digits lead to it.
  return made === never ? never : rule("digits", made);
}

/**
 * Returns the numbers between two bounds, with or without a fraction. They have at most 15 significant digits, and no
 * exponent.
 */
export function* numbersBetween(low: Bound, high: Bound): Steps<Expression> {
  if (isLarge(low)) return yield* numbersBetween({ value: nextInteger(low.value), open: false }, high);
  if (isLarge(high)) return yield* numbersBetween(low, { value: previousInteger(high.value), open: false });
  if (low.value > high.value) return never;
  const positive = high.value >= 0 ? yield* decimalsBetween(rangeOf(low, high)) : never;
  const [lowest, highest] = [negated(high), negated(low)];
  // The sign of zero makes no difference, so zero is written without it.
  const negative =
    low.value < 0
      ? yield* decimalsBetween(rangeOf(lowest.value > 0 ? lowest : { value: 0, open: true }, highest))
      : never;
  return choice(negative === never ? never : sequence(literal("-"), negative), positive);
}

/** Returns true if the numbers next to an open bound are rounded to it. */
function isLarge({ value, open }: Bound): boolean {
  return open && Number.isFinite(value) && Math.abs(value) >= 10 ** mostDigits;
}

function negated({ value, open }: Bound): Bound {
  return { value: -value, open };
}

function rangeOf(low: Bound, high: Bound): Range {
  const below = low.value < 0;
  const least = below ? zero : decimalOf(low.value);
  const limit = "9".repeat(Math.max(mostDigits, least.whole.length + 1));
  const unbounded = high.value === Infinity || BigInt(Math.floor(high.value)) > BigInt(limit);
  return {
    ...{ low: least, lowOpen: !below && low.open },
    ...(unbounded
      ? { high: { whole: limit, fraction: "" }, highOpen: false }
      : { high: decimalOf(high.value), highOpen: high.open }),
  };
}

/** Returns the numbers of a range. */
function* decimalsBetween(range: Range): Steps<Expression> {
  const { low, high, lowOpen, highOpen } = range;
  const [first, last] = [BigInt(low.whole), BigInt(high.whole)];
  if (first > last) return never;
  if (first === last)
    return sequence(literal(low.whole), fractionBetween(low.whole, low.fraction, lowOpen, high.fraction, highOpen));
  const lowest = sequence(literal(low.whole), fractionBetween(low.whole, low.fraction, lowOpen, null, false));
  const highest = sequence(literal(high.whole), fractionBetween(high.whole, "", false, high.fraction, highOpen));
  const between: Expression[] = [];
  if (first + 1n <= last - 1n) {
    const [from, to] = [String(first + 1n), String(last - 1n)];
    for (let { length } = from; length <= to.length; length++) {
      const least = length === from.length ? from : `1${"0".repeat(length - 1)}`;
      const most = length === to.length ? to : "9".repeat(length);
      const digits = yield* digitsBetween(least, most, 1, 0);
      between.push(sequence(digits, fractionBetween(least, "", false, null, false)));
    }
  }
  return choiceOf([lowest, ...between, highest]);
}

/**
 * Returns what follows the digits before the point: nothing, or a point and digits. `low` and `high` are the digits of the
 * bounds' fractions; `high` is null if there is none.
 */
function fractionBetween(
  whole: string,
  low: string,
  lowOpen: boolean,
  high: string | null,
  highOpen: boolean,
): Expression {
  const isZero = whole === "0";
  const significant = isZero ? 0 : whole.length;
  const leading = Math.max(0, ...[low, high ?? ""].map((one) => /^0*/.exec(one)![0].length));
  const most = isZero ? leading + mostDigits : mostDigits - significant;
  const isRestZero = (text: string, at: number): boolean => /^0*$/.test(text.slice(at));
  const known = new Map<string, Expression>();
  const mayEnd = (at: number, tightLow: boolean, tightHigh: boolean): boolean =>
    (!tightLow || (isRestZero(low, at) && !lowOpen)) && (!tightHigh || !highOpen || !isRestZero(high!, at));
  /** Returns the digits from a place on, of which `used` have been significant. */
  const rest = (at: number, used: number, tightLow: boolean, tightHigh: boolean): Expression => {
    const ends = at > 0 && mayEnd(at, tightLow, tightHigh) ? empty : never;
    if (at >= most || used >= mostDigits) return ends;
    if (!tightLow && !tightHigh && used > 0)
      return repeat(digit, at === 0 ? 1 : 0, Math.min(most - at, mostDigits - used));
    const key = `${at},${used},${tightLow},${tightHigh}`;
    const found = known.get(key);
    if (found) return found;
    spend(4);
    const from = tightLow ? Number(low[at] ?? 0) : 0;
    const to = tightHigh ? Number(high![at] ?? 0) : 9;
    const digits = digitOptions(from, to, (one) =>
      rest(at + 1, used > 0 || one > 0 ? used + 1 : 0, tightLow && one === from, tightHigh && one === to),
    );
    const made = choice(ends, digits);
    known.set(key, made);
    return made;
  };
  const digits = rest(0, significant, !isRestZero(low, 0) || lowOpen, high !== null);
  const none = mayEnd(0, !isRestZero(low, 0) || lowOpen, high !== null) ? empty : never;
  return choice(none, digits === never ? never : sequence(literal("."), digits));
}
