// The numbers that several schemas allow together.
import type { Steps } from "../turns.js";
import { choiceOf, type Expression, never, oneOfTexts } from "./expression.js";
import { integer, naturalNumber, number } from "./json-expressions.js";
import { type Bound, integersBetween, numbersBetween } from "./number-range.js";
import { type SchemaNode, unsupported } from "./schema-document.js";
import { placeOf } from "./schema-keywords.js";

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
  if (steps.some((step) => !Number.isInteger(step))) throw unsupported(place, "a number that is not whole");
  const step = steps.reduce((a, b) => (a / gcd(a, b)) * b, 1);
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
  const left = except.filter((value) => inRange(value) && (step === 1 || value % step === 0));
  if (left.length > 0) {
    if (type === "number" && steps.length === 0) throw unsupported(nodes[0]!.place, "excluded numbers");
    return yield* exceptIntegers(low, high, step, left, nodes);
  }
  if (step === 1 && low.value === -Infinity && high.value === Infinity) return integer;
  return yield* integersOf(low, high, step, nodes);
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

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b);
}
