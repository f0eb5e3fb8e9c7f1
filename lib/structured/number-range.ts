// Numbers between two bounds.
import { byte, choice, type Expression, literal, never, optionalPart, repeat, sequence } from "./expression.js";
import { fraction } from "./json-expressions.js";

const digit = byte(0x30, 0x39);

/** Most digits of an integer, so that JavaScript's numbers hold it. */
const mostDigits = 15;

/** Returns the integers from `low` to `high`, which may be infinite. */
export function integersBetween(low: number, high: number): Expression {
  const [first, last] = [Math.ceil(low), Math.floor(high)];
  const negative = last < 0 || first < 0 ? naturalsBetween(Math.max(1, -last), -first) : never;
  const natural = last >= 0 ? naturalsBetween(Math.max(0, first), last) : never;
  return choice(sequence(literal("-"), negative), natural);
}

/**
 * Returns numbers from `low` to `high` with or without a fraction. All of them are between the bounds, but those that
 * only differ from a bound in their fraction are left out.
 */
export function numbersBetween(low: number, high: number): Expression {
  const [first, last] = [Math.ceil(low), Math.floor(high)];
  const part = optionalPart(fraction);
  const positive = last >= 1 ? sequence(naturalsBetween(Math.max(0, first), last - 1), part) : never;
  const negative = first <= -1 ? sequence(literal("-"), naturalsBetween(Math.max(0, -last), -first - 1), part) : never;
  return choice(integersBetween(low, high), positive, negative);
}

/** Returns the numbers from `low` >= 0 to `high` without a sign. */
function naturalsBetween(low: number, high: number): Expression {
  if (low > high) return never;
  const least = String(low);
  if (least.length > mostDigits) return never;
  const most = high >= 10 ** mostDigits ? "9".repeat(mostDigits) : String(high);
  const options: Expression[] = [];
  for (let length = least.length; length <= most.length; length++) {
    const from = length === least.length ? least : `1${"0".repeat(length - 1)}`;
    const to = length === most.length ? most : "9".repeat(length);
    options.push(digitsBetween(from, to));
  }
  return choice(...options);
}

/** Returns the digits from `low` to `high`, which have the same length. */
function digitsBetween(low: string, high: string): Expression {
  const length = low.length;
  if (length === 0) return sequence();
  const [first, last] = [low.charCodeAt(0), high.charCodeAt(0)];
  if (first === last) return sequence(byte(first), digitsBetween(low.slice(1), high.slice(1)));
  const [zeros, nines] = ["0".repeat(length - 1), "9".repeat(length - 1)];
  const lowWhole = low.slice(1) === zeros;
  const highWhole = high.slice(1) === nines;
  const [from, to] = [lowWhole ? first : first + 1, highWhole ? last : last - 1];
  return choice(
    lowWhole ? never : sequence(byte(first), digitsBetween(low.slice(1), nines)),
    from <= to ? sequence(byte(from, to), repeat(digit, length - 1, length - 1)) : never,
    highWhole ? never : sequence(byte(last), digitsBetween(zeros, high.slice(1))),
  );
}
