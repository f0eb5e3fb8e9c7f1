/** Regular expressions of tasks: Python's, as Python itself applies them. */
import { spawnSync } from "node:child_process";
import { describe, expect, test } from "vitest";
import { filtered } from "../../lib/evaluation/filters.js";
import { PythonRegex } from "../../lib/evaluation/python-regex.js";
import { checkTaskFields } from "../../lib/evaluation/task-fields.js";
import { expectError } from "../support/errors.js";
import { pythonWith } from "../support/python.js";
import { testUnless } from "../support/skip.js";

const r = String.raw;

/** Returns what Python's findall() returns: whole matches, groups, or lists of groups. */
function findAll(source: string, text: string): (string | string[])[] {
  return new PythonRegex(source).matches(text).map(({ text: whole, groups }) => {
    if (groups.length === 0) return whole;
    const texts = groups.map((group) => group ?? "");
    return texts.length === 1 ? texts[0]! : texts;
  });
}

describe("expressions", () => {
  test.each<[pattern: string, text: string, found: (string | string[])[]]>([
    [r`(?s).*#### `, "a\nb\n#### 7", ["a\nb\n#### "]],
    [r`#### (\-?[0-9\.\,]+)`, "so\n#### -1,234.5 and #### 7", ["-1,234.5", "7"]],
    [r`(-?[$0-9.,]{2,})|(-?[0-9]+)`, "costs $12.50 or 7", [["$12.50", ""], ["", "7"]]],
    [r`(?i)answer:\s*(?P<letter>[a-d])`, "ANSWER: B. Answer:c", ["B", "c"]],
    [r`(?x) ( \d+ ) # a number
         \s* (?:kg|lb)`, "12kg, 7 lb", ["12", "7"]],
    [r`(?m)^(\w+)$`, "one\nzwölf\nat", ["one", "zwölf", "at"]],
    [r`\bthe\b`, "the éthe theé the", ["the", "the"]],
    [r`\d+`, "12 ٣٤ ²", ["12", "٣٤"]],
    [r`(?a)\d+|\w+`, "12 ٣٤ né", ["12", "n"]],
    [r`(?P<q>['"])(.*?)(?P=q)`, `say "it's" or 'no'`, [['"', "it's"], ["'", "no"]]],
    [r`a(?i:B)c(?-i:d)`, "abc aBcd ABCD", ["aBcd"]],
    [r`(?:(a)|b)*`, "ab", ["a", ""]],
    [r`(a)?\1b`, "b aab", ["a"]],
    [r`(\()?\w+(?(1)\))`, "(a b) c", ["", "", ""]],
    [r`a*`, "ab", ["a", "", ""]],
    [r`a*?`, "aa", ["", "a", "", "a", ""]],
    [r`(?>a+)b|a++c|(?:ab)*+a`, "aab aac aba", ["aab", "aac", "ab", "a"]],
    [r`(?<=\$)\d+(?!\.)`, "$12 $3.5 44", ["12"]],
    [r`[]x]+|[^]y]`, "]x]yz", ["]x]", "z"]],
    [r`\A\w|\w\Z`, "one two", ["o", "o"]],
    [r`o$`, "two\n", ["o"]],
    [r`x{2}|y{,2}z|w{,`, "xxx yyyz w{,", ["xx", "yyz", "w{,"]],
    [r`\x41\u00e9\101\0?`, "AéA\0", ["AéA\0"]],
    [r`.`, "😀\r\u2028\n", ["😀", "\r", "\u2028"]],
    [r`(?i)straſse|ſ`, "STRASSE s K", ["STRASSE", "s"]],
    [r`[\w.+-]+@[^\W_]+`, "ab.c+d@ex_mple", ["ab.c+d@ex"]],
  ])("%j in %j", (pattern, text, found) => {
    expect(findAll(pattern, text)).toEqual(found);
  }); // prettier-ignore

  test.each([
    ["(", /missing \), unterminated subpattern/],
    ["a)", /unbalanced parenthesis/],
    ["*a", /nothing to repeat/],
    ["a**", /multiple repeat/],
    ["a{3,2}", /min repeat greater than max repeat/],
    ["(?<=a+)b", /look-behind requires fixed-width pattern/],
    [r`(?<=(a))(?<=\1(b)\2)`, /same lookbehind/],
    ["a(?i)b", /global flags not at the start/],
    ["(?L)a", /LOCALE/],
    ["(?au)a", /incompatible/],
    [r`\q`, /bad escape \\q/],
    [r`\1`, /invalid group reference 1/],
    [r`(a\1)`, /cannot refer to an open group/],
    ["(?P<a>x)(?P<a>y)", /redefinition of group name/],
    ["(?P=a)", /unknown group name/],
    ["(?<a>x)", /unknown extension/],
    ["[a", /unterminated character set/],
    ["[z-a]", /bad character range/],
    [r`[\w-z]`, /bad character range/],
    [r`\N{DIGIT ONE}`, /names of characters/],
    [r`\400`, /outside of range/],
  ])("%j is refused as Python refuses it", (pattern, reason) => {
    expectError(() => new PythonRegex(pattern), "ERR_FORMAT", reason);
  });

  test("an iteration that there must be may be empty, and another one after it", () => {
    const found = (source: string) =>
      new PythonRegex(source).matches("é b\nb").map(({ start, end, groups }) => [start, end, ...groups]);
    expect(found(r`(?m)(?:(\b[b]?)|[^a]{,2})+?^`)).toEqual([
      [0, 0, ""],
      [0, 4, "b"],
      [4, 4, ""],
    ]);
    expect(found(r`(?m)(?:(\b[b]?)|[^a]{,2})*?^`)).toEqual([
      [0, 0, null],
      [0, 4, "b"],
      [4, 4, null],
    ]);
  });

  test.each([
    "(?:a|a)*b", "(?:a*)*b", "(?:a+)+b", "(?:a|aa)+$", "(a|b|ab)*c", "(?:a?){30}b", "^(?:a|a|b?)*?c", "(.*?,){11}P",
    "(?:(?:a{0,3}){0,3}){0,3}b", "(?!(?:a|a)*b)c", "(?=(?:a+)+b)a", "((a*)*)*b", "(?:a*?)+?b", "a*a*a*a*b", "a{0,9}a{0,9}a{0,9}a{0,9}a{0,9}a{0,9}b", "a{1,9}?a{1,9}?a{1,9}?a{1,9}?a{1,9}?b", "(x+x+)+y",
    ".*.*.*=.*", "(?:x*a)*?y", r`(\w+\s?)*:`, "(?i)(?:a|A)*b", "(?m)(?:^a|a)*$b",
  ])("%j takes no more steps than the text has places", (pattern) => {
    const steps = (length: number): number => {
      // The number of steps is the limit below which the work is given up.
      const text = "a".repeat(length);
      for (let mostSteps = 64; ; mostSteps *= 1.2)
        try {
          new PythonRegex(pattern, { mostSteps }).matches(text);
          return mostSteps;
        } catch (error) {
          expect((error as Error).message).toMatch(/quick to match/);
          expect(mostSteps).toBeLessThan(1e8);
        }
    };
    expect(steps(2000)).toBeLessThan(3 * steps(1000));
  }); // prettier-ignore

  test("long texts need no deep recursion, and endless work is given up", () => {
    expect(findAll("(?:ab|c)*d", `${"abc".repeat(100_000)}d`)).toHaveLength(1);
    expect(findAll("(?s)(.*?)z", `${"a".repeat(100_000)}z`)[0]).toHaveLength(100_000);
    for (const pattern of ["(?s).*#### ", "((?s:.)*)x", "[^#]+#### ", "(?s).*?#### "])
      expect(findAll(pattern, "a b\n".repeat(10_000)), pattern).toEqual([]);
    // With a reference to a group, what has failed once may match later.
    const endless = new PythonRegex(r`(x?)(?:a|a)*\1b`, { mostSteps: 1e6 });
    expectError(() => endless.matches("a".repeat(40)), "ERR_FORMAT", /quick to match, got .+ more than 1000000 steps/);
  });
});

describe("filters", () => {
  const steps = (pattern: string | undefined, more: object = {}) =>
    checkTaskFields({
      ...{ task: "t", test_split: "test", doc_to_text: "x", doc_to_target: "y" },
      filter_list: [
        { name: "f", filter: [{ function: "regex", ...(pattern && { regex_pattern: pattern }), ...more }] },
      ],
    }).filters![0]!.steps;

  test("give what the harness gives", () => {
    expect(filtered("2+2=4\n#### 4", steps(undefined))).toBe("4");
    expect(filtered("so\n#### 4\n", steps("(?s).*#### "))).toBe("so\n####");
    expect(filtered("none", steps(undefined))).toBe("[invalid]");
    expect(filtered("$5 and 7", steps("(-?[$0-9.,]{2,})|(-?[0-9]+)", { group_select: -1 }))).toBe("7");
    // A single group counts though it is empty; of several, the first that is not.
    expect(filtered("ac", steps("a(b?)c"))).toBe("");
    expect(filtered("ac", steps("a(b?)c(d?)", { fallback: " - " }))).toBe("-");
    expect(filtered("ac", steps("x", { fallback: " - " }))).toBe(" - ");
    expect(filtered("\x1c x ", steps("(?s).*"))).toBe("x");
    expectError(() => steps("(?<n>a)"), "ERR_FORMAT", /filter_list\[0\].filter\[0\].regex_pattern: expected a regular/);
  });
});

const { command: python3, missing: noPython } = pythonWith("re", "python3");

testUnless(noPython)("every character has the case variants that it has in Python", () => {
  const program = `
import json, re, sys
cased = [c for c in range(0x20000) if not 0xd800 <= c <= 0xdfff]
every = "".join(map(chr, cased))
sample = [c for c in cased if chr(c).lower() != chr(c).upper()]
json.dump([[c, [ord(m) for m in re.findall("(?i)" + re.escape(chr(c)), every)]] for c in sample[::9]], sys.stdout)`;
  const { stdout } = spawnSync(python3, ["-c", program], { encoding: "utf8", maxBuffer: 2 ** 28 });
  for (const [code, variants] of JSON.parse(stdout) as [number, number[]][]) {
    const regex = new PythonRegex(`(?i)[${r`\U`}${code.toString(16).padStart(8, "0")}]`);
    const own = variants.filter((variant) => regex.matches(String.fromCodePoint(variant)).length === 1);
    expect(own, `U+${code.toString(16)}`).toEqual(variants);
  }
});
