// The numbers that several schemas allow together.
import type { Steps } from "../util/turns.js";
import { choiceOf, type Expression, never, oneOfTexts } from "./expression.js";
import { integer, naturalNumber, number } from "./json-expressions.js";
import { type Bound, integersBetween, numbersBetween } from "./number-range.js";
import { type SchemaNode, unsupported } from "./schema-document.js";
import { placeOf } from "./schema-keywords.js";
import { spend } from "./work.js";

/** Most multiples that are written down one by one. */
const mostMultiples = 1000;

/**
 * Returns the numbers or integers that match all of the nodes.
 *
 * @throws ERR_ARGUMENT for multiples that cannot be found.
 */
export function* numberExpression(
  type: "number" | "integer",
  nodes: readonly SchemaNode[],
  excepted: readonly unknown[],
): Steps<Expression> {
  const [low, high] = boundsOf(nodes);
  const except = excepted.filter((value) => typeof value === "number");
  const steps = [
    ...new Set(nodes.map(({ schema }) => schema.multipleOf).filter((one) => one !== undefined)),
  ] as number[];
  const place = placeOf(nodes, "multipleOf");
  const isDecimal = steps.some((one) => !Number.isInteger(one));
  const common = commonMultiple(steps);
  if (!common) throw unsupported(place, "multiples of numbers with so many digits");
  const step = common.whole;
  if (steps.length > 0 && (low.value >= 1e20 || high.value <= -1e20)) throw unsupported(place, "such large multiples");
  if (step > Number.MAX_SAFE_INTEGER) throw unsupported(place, "multiples of large numbers");
  if (low.value > high.value || (low.value === high.value && (low.open || high.open))) return never;
  if (type === "number" && steps.length === 0 && except.length === 0) {
    if (low.value === -Infinity && high.value === Infinity) return number;
    if (low.value === 0 && !low.open && high.value === Infinity) return naturalNumber;
    return checked(yield* numbersBetween(low, high), nodes);
  }
  const inRange = (value: number): boolean =>
    (low.open ? value > low.value : value >= low.value) && (high.open ? value < high.value : value <= high.value);
  if (isDecimal && !areWholeMultiples(steps, step)) throw unsupported(place, `multiples of ${steps.join(" and ")}`);
  const left = except.filter((value) => inRange(value) && (step === 1 || value % step === 0));
  if (left.length > 0) {
    if (type === "number" && steps.length === 0) throw unsupported(nodes[0]!.place, "excluded numbers");
    return yield* exceptIntegers(low, high, step, left, nodes);
  }
  if (step === 1 && low.value === -Infinity && high.value === Infinity && !isDecimal) return integer;
  if (!isDecimal) return yield* integersOf(low, high, step, nodes);
  const whole = yield* integersOf(low, high, step, nodes);
  if (type === "integer") return whole;
  const texts = fractions(common, steps, (value) => inRange(value) && !except.includes(value), low, high);
  return choiceOf([whole, ...(texts.length > 0 ? [yield* oneOfTexts(texts)] : [])]);
}

/** Smallest common multiple of some steps: as `scaled` / 10^digits, and the smallest one that is a whole number. */
interface Multiple {
  readonly scaled: bigint;
  readonly digits: number;
  readonly whole: number;
}

/** Most digits after the point of a number whose multiples are found. */
const mostDigits = 9;

/** Returns the smallest common multiple of some steps; null if it has too many digits. */
function commonMultiple(steps: readonly number[]): Multiple | null {
  const parts = steps.map((step) => {
    const [text, exponent = "0"] = String(step).split("e") as [string, string?];
    const [whole, fraction = ""] = text.split(".") as [string, string?];
    return { value: BigInt(whole + fraction), digits: fraction.length - Number(exponent) };
  });
  const digits = Math.max(0, ...parts.map((part) => part.digits));
  if (digits > mostDigits) return null;
  const scale = 10n ** BigInt(digits);
  const scaled = parts
    .map((part) => part.value * 10n ** BigInt(digits - part.digits))
    .reduce((a, b) => (a / bigGcd(a, b)) * b, steps.length === 0 ? scale : 1n);
  const whole = scaled / bigGcd(scaled, scale);
  // What is larger is refused with the bounds.
  return { scaled, digits, whole: Number(whole) };
}

function bigGcd(a: bigint, b: bigint): bigint {
  return b === 0n ? a : bigGcd(b, a % b);
}

/** Returns true if a number is a multiple of all steps as validators calculate it, with rounded quotients. */
function isMultiple(value: number, steps: readonly number[]): boolean {
  return steps.every((step) => (Number.isInteger(step) ? value % step === 0 : Number.isInteger(value / step)));
}

/** Returns true if rounding spoils no multiple that is a whole number, as far as the first thousands of them show. */
function areWholeMultiples(steps: readonly number[], whole: number): boolean {
  for (let i = 1; i <= mostFractions; i++) if (!isMultiple(i * whole, steps)) return false;
  return true;
}

/** Most multiples with a fraction that are written down one by one. */
const mostFractions = 4000;

/** Returns the multiples with a fraction next to zero, as far as there are few, that validators take for multiples. */
function fractions(
  { scaled, digits }: Multiple,
  steps: readonly number[],
  isAllowed: (value: number) => boolean,
  low: Bound,
  high: Bound,
): readonly string[] {
  const unit = Number(scaled) / 10 ** digits;
  const from = low.value > 0 ? Math.floor(low.value / unit) : high.value < 0 ? Math.floor(high.value / unit) : 0;
  if (!Number.isSafeInteger(from)) return [];
  const texts: string[] = [];
  const least = low.value >= 0 ? from : Math.max(from - mostFractions, Math.floor(low.value / unit));
  const most = high.value <= 0 ? from + 1 : Math.min(from + mostFractions, Math.ceil(high.value / unit));
  spend(most - least);
  for (let i = least; i <= most; i++) {
    const count = BigInt(i) * scaled;
    const all = String(count < 0n ? -count : count).padStart(digits + 1, "0");
    const fraction = all.slice(all.length - digits).replace(/0+$/, "");
    if (fraction === "") continue;
    const text = `${count < 0n ? "-" : ""}${all.slice(0, all.length - digits)}.${fraction}`;
    if (text.length < 17 && isAllowed(Number(text)) && isMultiple(Number(text), steps)) texts.push(text);
  }
  return texts;
}

function* integersOf(low: Bound, high: Bound, step: number, nodes: readonly SchemaNode[]): Steps<Expression> {
  const found = (yield* integersBetween(low, high, step)) ?? (yield* listed(low, high, step));
  if (!found) throw unsupported(placeOf(nodes, "multipleOf"), `multiples of ${step}`);
  return found;
}

/** Returns the integers between two bounds without some, as ranges between those. */
function* exceptIntegers(
  low: Bound,
  high: Bound,
  step: number,
  except: readonly number[],
  nodes: readonly SchemaNode[],
): Steps<Expression> {
  const cuts = [...new Set(except)].sort((a, b) => a - b).filter((value) => Number.isInteger(value));
  const ends: Bound[] = [low, ...cuts.map((value) => ({ value, open: true })), high];
  const parts: Expression[] = [];
  for (const [i, end] of ends.slice(1).entries()) {
    const from = ends[i]!;
    if (from.value < end.value || (from.value === end.value && !from.open && !end.open))
      parts.push(yield* integersOf(from, end, step, nodes));
  }
  return choiceOf(parts);
}

/** Returns the multiples between two bounds one by one; null if there are many. */
function* listed(low: Bound, high: Bound, step: number): Steps<Expression | null> {
  const [first, last] = [Math.ceil(low.value / step), Math.floor(high.value / step)];
  if (!(last - first < mostMultiples)) return null;
  const texts: string[] = [];
  for (let i = first; i <= last; i++) {
    const value = i * step;
    if (!(low.open && value === low.value) && !(high.open && value === high.value)) texts.push(String(BigInt(value)));
  }
  return texts.length === 0 ? never : yield* oneOfTexts(texts);
}

/** Checks that there are numbers, since the bounds allow some. */
function checked(found: Expression, nodes: readonly SchemaNode[]): Expression {
  if (found !== never) return found;
  throw unsupported(
    placeOf(nodes, "minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"),
    "bounds between which no number has at most 15 digits",
  );
}

/** Returns the greatest lower bound and the least upper bound. */
function boundsOf(nodes: readonly SchemaNode[]): readonly [Bound, Bound] {
  let [low, high]: [Bound, Bound] = [
    { value: -Infinity, open: false },
    { value: Infinity, open: false },
  ];
  const raise = (value: number, open: boolean): void => {
    if (value > low.value || (value === low.value && open)) low = { value, open };
  };
  const lower = (value: number, open: boolean): void => {
    if (value < high.value || (value === high.value && open)) high = { value, open };
  };
  for (const { schema } of nodes) {
    const { minimum, maximum, exclusiveMinimum, exclusiveMaximum } = schema as Record<string, number | boolean>;
    if (typeof minimum === "number") raise(minimum, exclusiveMinimum === true);
    if (typeof maximum === "number") lower(maximum, exclusiveMaximum === true);
    if (typeof exclusiveMinimum === "number") raise(exclusiveMinimum, true);
    if (typeof exclusiveMaximum === "number") lower(exclusiveMaximum, true);
  }
  return [low, high];
}
