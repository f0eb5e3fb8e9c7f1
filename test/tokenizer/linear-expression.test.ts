/**
 * Regular expressions of a stranger's tokenizer.json: they are searched exactly and in bounded time, or refused with a
 * reason.
 */
import { describe, expect, it } from "vitest";
import { HuggingFaceTokenizer } from "../../lib/index.js";
import { isKnownExpression } from "../../lib/tokenizer/known-expressions.js";
import { LinearExpression } from "../../lib/tokenizer/linear-expression.js";
import { expectError } from "../support/errors.js";
import { byteLevelJson } from "./fixtures.js";

const byteLevel = { type: "ByteLevel", add_prefix_space: false, use_regex: false };

function splitting(Regex: string, behavior = "Isolated", invert = false): HuggingFaceTokenizer {
  const split = { type: "Split", pattern: { Regex }, behavior, invert };
  return new HuggingFaceTokenizer({
    ...byteLevelJson(),
    pre_tokenizer: { type: "Sequence", pretokenizers: [split, byteLevel] },
  });
}

/** Fails if a call takes a tenth of the time that backtracking would take. */
function inTime<T>(call: () => T): T {
  const before = process.cpuUsage();
  const result = call();
  expect(process.cpuUsage(before).user / 1e6).toBeLessThan(10);
  return result;
}

/** On 41 characters each of them takes JavaScript's engine hours. */
const exponential: [string, string][] = [
  [String.raw`(a|a)*b`, "a".repeat(41)],
  [String.raw`(a+)+b`, "a".repeat(41)],
  [String.raw`(\p{L}+)+!`, "e".repeat(41)],
  [String.raw`(?:\s|[ \t]|\p{Zs})+$x`, " ".repeat(41)],
  [String.raw`(?:a|ab|b)*?c`, "ab".repeat(20)],
  [String.raw`(?=(?:\w|\p{L})+!)a`, "a".repeat(41)],
  [String.raw`(?<=b(?:a|a)+)c`, `${"a".repeat(41)}c`],
];

describe("an expression that would need backtracking", () => {
  it.each(exponential)("splits a text: %s", (source, text) => {
    for (const behavior of ["Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"]) {
      const tokenizer = splitting(source, behavior);
      expect(tokenizer.decode(inTime(() => tokenizer.encode(text)))).toBe(text);
    }
  });

  it("normalizes a text", () => {
    const normalizer = { type: "Replace", pattern: { Regex: "(a|a)*b" }, content: "$&" };
    const tokenizer = new HuggingFaceTokenizer({ ...byteLevelJson(), normalizer });
    const given = `${"a".repeat(41)} aab`;
    expect(tokenizer.decode(inTime(() => tokenizer.encode(given)))).toBe(`${"a".repeat(41)} $&`);
  });

  it("normalizes a token that the tokenizer adds, when it is loaded", () => {
    const json = byteLevelJson();
    const normalizer = { type: "Replace", pattern: { Regex: "(a|a)*b" }, content: "" };
    json.added_tokens.push({ id: 300, content: "a".repeat(41), special: false, normalized: true });
    inTime(() => new HuggingFaceTokenizer({ ...json, normalizer }));
  });

  it("decodes a token", () => {
    const json = byteLevelJson();
    Object.assign(json.model.vocab, { ["a".repeat(41)]: 400, aab: 401 });
    const decoder = { type: "Replace", pattern: { Regex: "(a|a)*b" }, content: "$&" };
    const tokenizer = new HuggingFaceTokenizer({ ...json, decoder });
    expect(inTime(() => tokenizer.decode([400, 401]))).toBe(`${"a".repeat(41)}$&`);
  });

  it("takes time in proportion to a long text", () => {
    // From each place, the search goes to the end of the text and back, in vain.
    for (const source of [String.raw`a+b|a`, String.raw`(?=a*b)a|a`, String.raw`(?<!ba*)a`])
      expect(inTime(() => [...new LinearExpression(source).matches("a".repeat(100_000))].filter(Boolean))).toHaveLength(
        100_000,
      );
  });
});

describe("expressions that cannot be searched for in linear time", () => {
  it.each([
    [String.raw`(a+)\1`, /without back references, got "\(a\+\)\\\\1"/],
    [String.raw`(?<x>a)\k<x>`, /without back references/],
    ["(a*)*", /without a repeated part that may be empty, got "\(a\*\)\*"/],
    ["((a{100}){100}){100}", /at most 2048 steps/],
    ["(?:){1000000000}a{9999}", /at most 2048 steps/],
    ["(".repeat(300) + "a" + ")".repeat(300), /nested more than 200 deep/],
  ])("is refused when the tokenizer is loaded: %s", (source, message) => {
    inTime(() => expectError(() => splitting(source), "ERR_FORMAT", message));
  });

  it("are refused in a decoder", () => {
    const decoder = { type: "Replace", pattern: { Regex: String.raw`(.)\1` }, content: "" };
    expectError(() => new HuggingFaceTokenizer({ ...byteLevelJson(), decoder }), "ERR_FORMAT", /back references/);
  });

  it("and a text for which there would be too much to remember", () => {
    const expression = new LinearExpression("[ab]{1,1000}");
    expectError(() => expression.matches("a".repeat(2_200_000)).next(), "ERR_RANGE", /fewer than \d+ characters/);
  });
});

describe("expressions of well-known tokenizers", () => {
  const text =
    "Hello, WORLD! I'LL don't  it's 12345 x2\n\n\r\n  tab\tend.   中文字 ひらがな カタカナ naïve éÉ Ǆ 😀😀 “q” foo_bar a/b\n ... https://x.y/z?a=b#c \u0301e" +
    " 한국어 ١٢٣ ½ \u00a0\u2003 MixedCaseWORDSInOne 'S 'Re //\n";

  // The expressions are written as in tokenizer.json, independently of how they are composed in the code.
  const known = [
    String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`,
    String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
    String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
    String.raw`[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
    String.raw`[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    String.raw`\p{N}{1,3}`,
    String.raw`'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+`,
    String.raw` ?[^(\s|[.,!?…。，、।۔،])]+`,
    " {2,}",
    String.raw`\s+`,
  ];
  /** These expressions are not in the table, so heed searches for them itself, with the results of JavaScript's engine. */
  const others = [
    String.raw`[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
    String.raw`\d{1,3}(?=(?:\d{3})*\b)`,
    String.raw`[0-9]`,
    String.raw`\n| ?[\p{L}\p{N}]+| ?[^\s\p{L}\p{N}]+|\s+`,
    String.raw`(?<=\p{Ll})(?=\p{Lu})`,
    String.raw`\s+$|^\s+`,
  ];

  it.each(known)("are known: %s", (source) => {
    expect(isKnownExpression(source)).toBe(true);
  });

  it.each([...known, ...others])("split a text as Hugging Face's Rust library does: %s", async (source) => {
    const { Tokenizer } = await import("@anush008/tokenizers");
    // An empty group makes it another expression, which is not in the table.
    for (const written of [source, `(?:)${source}`]) {
      const json = {
        ...byteLevelJson(),
        truncation: null,
        padding: null,
        post_processor: null,
        pre_tokenizer: {
          type: "Sequence",
          pretokenizers: [
            { type: "Split", pattern: { Regex: written }, behavior: "Isolated", invert: false },
            { ...byteLevel, trim_offsets: true },
          ],
        },
        added_tokens: [],
        model: { ...byteLevelJson().model, merges: [], continuing_subword_prefix: null, end_of_word_suffix: null },
      };
      const rust = Tokenizer.fromString(JSON.stringify(json));
      const own = new HuggingFaceTokenizer(json);
      expect([...own.encode(text)]).toEqual((await rust.encode(text)).getIds());
    }
  });
});
