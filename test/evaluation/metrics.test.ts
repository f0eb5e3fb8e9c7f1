/** Metrics of texts: published examples, and slow twins in Python (test/fixtures/text_metrics.py). */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { bleu } from "../../lib/evaluation/metrics/bleu.js";
import { chrf } from "../../lib/evaluation/metrics/chrf.js";
import { exactMatch } from "../../lib/evaluation/metrics/exact-match.js";
import { squadF1 } from "../../lib/evaluation/metrics/squad-f1.js";
import { bootstrapOf, meanOf, ratioOf } from "../../lib/evaluation/statistics.js";

interface Case {
  texts: string[];
  references: string[][];
  bleu: number;
  chrf: number;
}

const cases = JSON.parse(readFileSync(new URL("../fixtures/text-metrics.json", import.meta.url), "utf8")) as Case[];

describe("BLEU and chrF", () => {
  // The example of sacreBLEU's README, with the results that it states.
  const texts = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."];
  const references = [
    ["The dog bit the man.", "The dog had bit the man."],
    ["It was not unexpected.", "No one was surprised."],
    ["The man bit him first.", "The man had bitten the dog."],
  ];

  test("are those that sacreBLEU states", () => {
    expect(bleu(texts, references).toFixed(2)).toBe("48.53");
    expect(chrf(texts, references).toFixed(2)).toBe("59.73");
  });

  test("are those of slow twins", () => {
    for (const [i, one] of cases.entries()) {
      expect(bleu(one.texts, one.references), `case ${i}`).toBeCloseTo(one.bleu, 10);
      expect(chrf(one.texts, one.references), `case ${i}`).toBeCloseTo(one.chrf, 10);
    }
  });

  test("a text without anything in common has none", () => {
    expect([bleu(["a b c d e"], [["f g h i j"]]), chrf(["abc"], [["xyz"]])]).toEqual([0, 0]);
    expect([bleu([""], [["a"]]), chrf([""], [["a"]])]).toEqual([0, 0]);
  });
});

describe("exact match and F1", () => {
  test("SQuAD's normalization leaves out case, punctuation and articles", () => {
    expect(squadF1("The White Whale!", ["a white whale"])).toBe(1);
    expect(squadF1("The Theatre", ["theatre"])).toBe(1);
    // Of three and two words, two are the same: precision 2/3, recall 1.
    expect(squadF1("old white whale", ["white whale"])).toBeCloseTo(0.8, 12);
    expect(squadF1("whale whale", ["whale"])).toBeCloseTo(2 / 3, 12);
    expect(squadF1("whale", ["sea", "the whale"])).toBe(1);
    expect([squadF1("", [""]), squadF1("the", ["a"]), squadF1("", ["whale"])]).toEqual([1, 1, 0]);
  });

  test("an exact match overlooks what it is told to", () => {
    expect(exactMatch("Paris", ["paris"])).toBe(0);
    expect(exactMatch("Paris.", ["London", "paris"], { ignoreCase: true, ignorePunctuation: true })).toBe(1);
    expect(exactMatch("7 whales", [" whales"], { ignoreNumbers: true })).toBe(1);
    expect(exactMatch("$1,000", ["1000"], { patternsToIgnore: [/\$/, /,/] })).toBe(1);
    // With the flag u the time is proportional to the text: JavaScript's own engine would take 2⁶⁴ steps.
    expect(exactMatch(`${"a".repeat(64)}c`, ["c"], { patternsToIgnore: [/(?:a|a)*b/u] })).toBe(0);
    expect(exactMatch(`x${"a".repeat(64)}bc💡`, ["xc"], { patternsToIgnore: [/(?:a|a)*b/u, /\p{So}/u] })).toBe(1);
    // What it cannot do so, JavaScript does: groups that are referred to, and other flags.
    expect(exactMatch("aXabb", ["ab"], { patternsToIgnore: [/(b)\1/u, /x/iu] })).toBe(0);
    expect(exactMatch("aXabb", ["aa"], { patternsToIgnore: [/(b)\1/u, /x/iu] })).toBe(1);
  });
});

describe("standard errors", () => {
  test("of a mean and of a ratio", () => {
    expect(meanOf([1, 2, 3, 6])).toEqual({ value: 3, stderr: Math.sqrt(14 / 3 / 4) });
    expect(meanOf([1])).toEqual({ value: 1, stderr: null });
    // With equal weights a ratio is a mean.
    const { value, stderr } = ratioOf([1, 2, 3, 6].map((x) => [x, 2]));
    expect([value, stderr]).toEqual([1.5, expect.closeTo(Math.sqrt(14 / 3 / 4) / 2, 12)]);
  });

  test("the bootstrap of a mean is near the formula's, and the same every time", () => {
    const values = Array.from({ length: 60 }, (_, i) => ((i * 37) % 60) / 60);
    const mean = (some: readonly number[]): number => meanOf(some).value;
    const one = bootstrapOf(values, mean);
    expect(one).toEqual(bootstrapOf(values, mean));
    // 500 samples know a standard deviation to 1/√1000 of it; this allows four times as much.
    expect(Math.abs(one.stderr! / meanOf(values).stderr! - 1)).toBeLessThan(4 / Math.sqrt(1000) + 1 / 60);
  });
});
