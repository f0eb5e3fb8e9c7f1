/** Regular expressions of evaluation tasks find what they find in Python's re, and are refused where Python refuses them. */
import { spawnSync } from "node:child_process";
import fc from "fast-check";
import { expect } from "vitest";
import { PythonRegex } from "../../lib/evaluation/python-regex.js";
import { pythonWith } from "../support/python.js";
import { fuzz } from "./fuzz.js";

const r = String.raw;
const { command: python3, missing: noPython } = pythonWith("re", "python3");

/** Small random expressions, from few characters, so that they match often. */
function randomPatterns(count: number, seed: number): string[] {
  let state = seed;
  const below = (n: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
  const pick = <T>(...items: T[]): T => items[below(items.length)]!;
  const quantifier = () => pick("", "", "", "*", "+", "?", "*?", "+?", "{2}", "{1,2}?", "{,2}");
  // Python 3.11 keeps what groups held in failed attempts of possessive repetitions, so that those have no groups here.
  const repeated = (...items: string[]) => pick(...items) + pick(quantifier(), quantifier(), "*+");
  const atom = (depth: number): string => {
    if (below(6) === 0) return pick(r`\b`, r`\B`, "^", "$");
    if (depth === 0 || below(3) > 0)
      return repeated("a", "b", "A", "é", "ſ", ".", r`\w`, r`\W`, r`\d`, r`\s`, "[ab]", "[^a]", "[A-é]", r`[\W_]`, r`\1`, " ", "\n"); // prettier-ignore
    return group(depth) + quantifier();
  };
  const group = (depth: number): string => {
    const inner = () => choice(depth - 1);
    return pick(
      () => `(${inner()})`, () => `(?:${inner()})`, () => `(?=${inner()})`, () => `(?!${inner()})`,
      () => `(?<=${pick("a", "[ab]", "ab", r`\w\b`)})`, () => `(?<!${pick("a", "b", "é")})`, () => `(?i:${inner()})`,
      () => `(?s-i:${inner()})`, () => `(?>${inner()})`, () => `(?(1)${sequence(depth - 1)}|${sequence(depth - 1)})`,
      () => `(?P<n${below(3)}>${inner()})`,
    )(); // prettier-ignore
  };
  const sequence = (depth: number): string => Array.from({ length: 1 + below(3) }, () => atom(depth)).join("");
  const choice = (depth: number): string => Array.from({ length: 1 + below(2) }, () => sequence(depth)).join("|");
  return Array.from(
    { length: count },
    () =>
      pick("", "", "(?i)", "(?m)", "(?s)", "(?a)", "(?im)") +
      pick("(a|b)?", "(.)*", ".*", "(a*)", "a(?#b)+?") +
      choice(2),
  );
}

const program = `
import json, re, sys, warnings
warnings.simplefilter("ignore")
patterns, texts = json.load(sys.stdin)
def found(pattern):
    try: compiled = re.compile(pattern)
    except re.error: return None
    return [[[[m.start(), m.end(), list(m.groups())] for m in compiled.finditer(t)], compiled.sub("", t)] for t in texts]
json.dump([found(p) for p in patterns], sys.stdout)`;
import { describeUnless } from "../support/skip.js";

const texts = ["a", "ab", "aab A_b", "é b\nſa\n", "aAbB ba1", "ababab", "\n\n a", "bab é1é"];

/** Returns what an expression finds in the texts, or null if it takes too long. */
function found(pattern: string): unknown {
  const regex = new PythonRegex(pattern, { mostSteps: 1e6 });
  try {
    return texts.map((text) => [
      regex.matches(text).map(({ start, end, groups }) => [start, end, groups]),
      regex.without(text),
    ]);
  } catch (error) {
    if ((error as Error).message.includes("quick to match")) return null;
    throw error;
  }
}

describeUnless(noPython)("Python's expressions", () => {
  fuzz("find what they find in Python", fc.integer({ min: 0, max: 2 ** 32 - 1 }), { ci: 3, nightly: 500 }, (seed) => {
    const patterns = randomPatterns(200, seed);
    const { stdout, stderr, error } = spawnSync(python3, ["-c", program], {
      input: JSON.stringify([patterns, texts]),
      encoding: "utf8",
      maxBuffer: 2 ** 28,
      timeout: 30_000,
    });
    // Some expressions take exponential time, in Python too.
    if (error) return;
    expect(stderr).toBe("");
    for (const [i, expected] of (JSON.parse(stdout) as unknown[]).entries()) {
      const pattern = patterns[i]!;
      if (expected === null) {
        expect(() => new PythonRegex(pattern), pattern).toThrow(/expected a regular expression of Python/);
        continue;
      }
      const own = found(pattern);
      if (own) expect(own, pattern).toEqual(expected);
    }
  });
});
