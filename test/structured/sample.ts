/** Random texts of an expression, made from the expression itself, which ends soon where tokens drawn one by one do not. */
import type { Expression } from "../../lib/structured/expression.js";
import { Random } from "../support/random.js";

/** Returns a function that makes a text; `length` is about the number of bytes after which it ends as soon as possible. */
export function sampler(root: Expression): (seed: number, length: number) => string {
  const shortest = shortestOf(root);
  return (seed, length) => {
    const random = new Random(seed);
    const bytes: number[] = [];
    const pending: Expression[] = [root];
    for (let one = pending.pop(); one; one = pending.pop()) {
      const long = bytes.length > length;
      if (one.kind === "byte") bytes.push(one.low + random.integer(one.high - one.low + 1));
      else if (one.kind === "sequence") pending.push(...[...one.parts].reverse());
      else if (one.kind === "rule") pending.push(one.body);
      else if (one.kind === "choice") {
        const options = one.options.filter((option) => shortest(option) < Infinity);
        const least = options.reduce((a, b) => (shortest(b) < shortest(a) ? b : a));
        pending.push(long || random.uniform() < 0.1 ? least : options[random.integer(options.length)]!);
      } else {
        const more = long ? 0 : random.integer(random.uniform() < 0.05 ? 30 : 4);
        const count = shortest(one.of) === Infinity ? one.least : Math.min(one.most, one.least + more);
        for (let i = 0; i < count; i++) pending.push(one.of);
      }
    }
    return Buffer.from(bytes).toString();
  };
}

/** Returns a function that says how short a text of a part can be. */
function shortestOf(root: Expression): (one: Expression) => number {
  const lengths = new Map<Expression, number>();
  const parts = new Set<Expression>([root]);
  for (const one of parts) {
    if (one.kind === "sequence") for (const part of one.parts) parts.add(part);
    else if (one.kind === "choice") for (const option of one.options) parts.add(option);
    else if (one.kind === "repeat") parts.add(one.of);
    else if (one.kind === "rule") parts.add(one.body);
  }
  const order = [...parts].reverse();
  const known = (one: Expression): number => lengths.get(one) ?? Infinity;
  const lengthOf = (one: Expression): number => {
    if (one.kind === "byte") return 1;
    if (one.kind === "sequence") return one.parts.reduce((sum, part) => sum + known(part), 0);
    if (one.kind === "choice") return Math.min(...one.options.map(known));
    if (one.kind === "repeat") return one.least === 0 ? 0 : one.least * known(one.of);
    return known(one.body) + 0.01;
  };
  for (let changed = true; changed;) {
    changed = false;
    for (const one of order) {
      const length = lengthOf(one);
      if (length === known(one)) continue;
      lengths.set(one, length);
      changed = true;
    }
  }
  return known;
}
