/** Evaluations have Python's random numbers, texts of values, and white space. */
import { spawnSync } from "node:child_process";
import { describe, expect, test } from "vitest";
import { squadF1 } from "../../lib/evaluation/metrics/squad-f1.js";
import { PythonRandom } from "../../lib/evaluation/python-random.js";
import { splitAtSpaces, strip, stripEnd, wordsOf } from "../../lib/evaluation/python-strings.js";
import { pythonWith } from "../support/python.js";
import { testUnless } from "../support/skip.js";

const { command: python3, missing: noPython } = pythonWith("json", "python3");

/** Runs a program of Python with a value in JSON as its input, and returns the value that it writes. */
function inPython(program: string, input: unknown): unknown {
  const { stdout, stderr } = spawnSync(python3, ["-c", `import json, sys\ngiven = json.load(sys.stdin)\n${program}`], {
    input: JSON.stringify(input),
    encoding: "utf8",
  });
  expect(stderr).toBe("");
  return JSON.parse(stdout);
}

describe("random.sample", () => {
  const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
  const draws = (seed: number, pairs: readonly (readonly [n: number, count: number])[]): number[][] => {
    const random = new PythonRandom(seed);
    return pairs.map(([n, count]) => random.sample(range(n), count));
  };

  test("draws what Python 3.11 drew", () => {
    expect(draws(1234, [[100, 5], [100, 5], [20, 3], [7, 7]])).toEqual([[99, 56, 14, 0, 11], [74, 4, 85, 88, 10], [3, 11, 7], [0, 6, 5, 2, 3, 1, 4]]); // prettier-ignore
    expect(draws(2 ** 40 + 3, [[70_000, 4], [85, 8], [86, 8]])).toEqual([[28807, 7973, 12400, 39864], [54, 29, 60, 71, 81, 42, 33, 75], [39, 32, 60, 42, 69, 47, 12, 4]]); // prettier-ignore
    expect(draws(0, [[1, 1], [1, 0], [1319, 25]])).toEqual([[0], [], [861, 82, 530, 1047, 995, 829, 621, 976, 733, 1194, 447, 1033, 285, 577, 286, 194, 1266, 513, 1090, 1232, 300, 635, 202, 151, 676]]); // prettier-ignore
  });

  testUnless(noPython)("draws what this Python draws, from small and large pools in turn", () => {
    const cases = range(40).map((i) => ({
      seed: i % 3 === 0 ? i : i % 3 === 1 ? 2 ** 32 + i : 2 ** 53 - 1 - i,
      pairs: range(12).map((j) => {
        const n = 1 + ((i * 7919 + j * 104_729) % (j % 2 === 0 ? 30 : 4000));
        return [n, Math.min(n, (i + j) % 40)] as [number, number];
      }),
    }));
    const program = `
import random
def draws(case):
    rnd = random.Random(case["seed"])
    return [rnd.sample(range(n), count) for n, count in case["pairs"]]
json.dump([draws(case) for case in given], sys.stdout)`;
    expect(cases.map(({ seed, pairs }) => draws(seed, pairs))).toEqual(inPython(program, cases));
  });
});

/** Words with letters, digits and marks of several scripts beside articles. */
const answers = [
  "the é", "éa", "aé", "a é", "a-é", "the\u0301 x", "a\u0301", "à la carte", "Das ä the", "an_", "1a", "a1", "٣a", "a٣",
  "the²", "²the x", "a—b", "the… end", "“the” cat", "a\u00a0b", "a\u200bb", "the\ufeffx", "\ufeffa", "x\x1cy", "x\x85y",
  "İSTANBUL", "ΑΣ the", "ẞ a", "the\u3000whale", "Ⅷa", "㊀the", "中a", "the中", "a.n the-e", "an’the", "THE", "ſ a", "ａ a",
]; // prettier-ignore

describe("SQuAD's F1", () => {
  test("keeps articles that are parts of words of any language", () => {
    // Without the article nothing is left of the second text; with it, the words differ.
    expect(squadF1("éa", ["é"])).toBe(0);
    expect(squadF1("la théorie", ["la orie"])).toBe(0.5);
    expect(squadF1("a é", ["é"])).toBe(1);
    expect(squadF1("à", [""])).toBe(0);
    expect(squadF1("a\u2014b", ["\u2014b"])).toBe(1);
    expect(squadF1("x\x1cy", ["x y"])).toBe(1);
    expect(squadF1("x\ufeffy", ["x y"])).toBe(0);
  });

  testUnless(noPython)("is that of SQuAD's normalization in Python", () => {
    const program = `
import re, string
from collections import Counter
def words(text):
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\\b(a|an|the)\\b", " ", text).split()
def f1(a, b):
    a, b = words(a), words(b)
    if not a or not b: return float(a == b)
    return 2 * sum((Counter(a) & Counter(b)).values()) / (len(a) + len(b))
json.dump([[f1(a, b) for b in given] for a in given], sys.stdout)`;
    const expected = inPython(program, answers);
    expect(answers.map((a) => answers.map((b) => squadF1(a, [b])))).toEqual(expected);
  });
});

testUnless(noPython)("white space is Python's", () => {
  const texts = Array.from(
    { length: 0x3100 },
    (_, code) => `${String.fromCharCode(code)}x${String.fromCharCode(code)}y `,
  );
  const program = `
import re
json.dump([[t.strip(), t.rstrip(), re.split(r"\\s+", t), t.split()] for t in given], sys.stdout)`;
  const own = texts.map((text) => [strip(text), stripEnd(text), splitAtSpaces(text), wordsOf(text)]);
  expect(own).toEqual(inPython(program, texts));
});
