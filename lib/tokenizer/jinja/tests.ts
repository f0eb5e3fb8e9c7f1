// Jinja2's tests: `value is name`.
import { contains, arithmetic } from "./operators.js";
import { textOf } from "./repr.js";
import { type Operation, operations, type Runtime } from "./runtime.js";
import { isLower, isUpper } from "./string-methods.js";
import {
  compare,
  Dict,
  DictView,
  equal,
  Float,
  Func,
  isInt,
  isIterable,
  Iter,
  Markup,
  numberOf,
  stringOf,
  Undefined,
  type Value,
} from "./values.js";

type Test = Operation<Value, boolean>;
const test = operations<Value, boolean>();
const plain = (check: (value: Value, runtime: Runtime) => boolean): Test =>
  test("", (runtime, value) => check(value, runtime));

const order = (operator: string, check: (order: number) => boolean): Test =>
  test("b", ({ bounds }, a, [b]) => check(compare(a, b!, bounds, operator)));
const remainder = (value: Value, by: number, { bounds }: Runtime): Value => arithmetic("%", value, by, bounds);

const eq = test("b", ({ bounds }, a, [b]) => equal(a, b!, bounds));
const ne = test("b", ({ bounds }, a, [b]) => !equal(a, b!, bounds));
const [lt, le] = [order("<", (o) => o < 0), order("<=", (o) => o <= 0)];
const [gt, ge] = [order(">", (o) => o > 0), order(">=", (o) => o >= 0)];

/** Returns true if two values are the same text: a text with untrusted parts is an object of its own here. */
function isSameText(a: Value, b: Value): boolean {
  if (a instanceof Markup || b instanceof Markup) return false;
  const text = stringOf(a);
  return text !== undefined && text === stringOf(b);
}

export const tests: Readonly<Record<string, Test>> = {
  ...{ eq, equalto: eq, "==": eq, ne, "!=": ne },
  ...{ lt, lessthan: lt, "<": lt, le, "<=": le, gt, greaterthan: gt, ">": gt, ge, ">=": ge },
  boolean: plain((value) => typeof value === "boolean"),
  callable: plain((value) => value instanceof Func || value instanceof Undefined),
  defined: plain((value) => !(value instanceof Undefined)),
  divisibleby: test("num", ({ bounds }, value, [by]) => equal(arithmetic("%", value, by!, bounds), 0, bounds)),
  escaped: plain((value) => value instanceof Markup),
  even: plain((value, runtime) => equal(remainder(value, 2, runtime), 0, runtime.bounds)),
  false: plain((value) => value === false),
  float: plain((value) => value instanceof Float),
  in: test("seq", ({ bounds }, value, [container]) => contains(container!, value, bounds)),
  integer: plain((value) => isInt(value) && typeof value !== "boolean"),
  iterable: plain((value) => isIterable(value)),
  lower: plain((value, { bounds }) => isLower(textOf(value, bounds))),
  mapping: plain((value) => value instanceof Dict),
  none: plain((value) => value === null),
  number: plain((value) => numberOf(value) !== undefined),
  odd: plain((value, runtime) => equal(remainder(value, 2, runtime), 1, runtime.bounds)),
  sameas: test("other", (_, value, [other]) => value === other || isSameText(value, other!)),
  sequence: plain((value) => !(value instanceof DictView) && !(value instanceof Iter) && isIterable(value)),
  string: plain((value) => stringOf(value) !== undefined),
  true: plain((value) => value === true),
  undefined: plain((value) => value instanceof Undefined),
  upper: plain((value, { bounds }) => isUpper(textOf(value, bounds))),
};
