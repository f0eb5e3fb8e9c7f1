// How a text is cut into pieces and brought to a common form, for the JavaScript library that does it: in its own
// reading of some parts of a tokenizer.json white space, digits and words are what JavaScript's \s, \d and \w take (no
// U+0085, but U+FEFF; ASCII alone), and some behaviours of Split are not told apart. Regular expressions it reads as
// Hugging Face's own library does, so those parts become expressions.
import { describe, HeedError } from "../errors.js";
import { isKnownExpression } from "./known-expressions.js";
import { LinearExpression } from "./linear-expression.js";

type Config = Record<string, unknown>;

const punctuation = String.raw`[\p{P}!-/:-@\[-\x60{-~]`;
const wordCharacters = String.raw`\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}`;
/** GPT-2's: words, numbers, runs of signs and of white space. */
const gpt2Split = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;

/** What matches a piece is kept, all else left out. */
const keep = (expression: string): Config => ({
  type: "Split",
  pattern: { Regex: expression },
  behavior: "Removed",
  invert: true,
});
/** What matches is a piece, and so is what lies between. */
const isolate = (expression: string): Config => ({
  type: "Split",
  pattern: { Regex: expression },
  behavior: "Isolated",
  invert: false,
});
const sequence = (...pretokenizers: unknown[]): Config => ({ type: "Sequence", pretokenizers });

/** The "pre_tokenizer" of a tokenizer.json as the library is to get it. */
export function preTokenizerOf(part: unknown): unknown {
  const config = (part ?? {}) as Config;
  switch (config.type) {
    case "Sequence":
      return Array.isArray(config.pretokenizers) ? sequence(...config.pretokenizers.map(preTokenizerOf)) : part;
    case "ByteLevel": {
      const { add_prefix_space: prefixed, use_regex: cut = true } = config;
      const prefix = replace(String.raw`\A[^ ]`, " $&");
      const bytes = { type: "ByteLevel", add_prefix_space: false, use_regex: false };
      return sequence(...(prefixed === true ? [prefix] : []), ...(cut === true ? [isolate(gpt2Split)] : []), bytes);
    }
    case "Metaspace":
      return metaspace(config);
    case "Whitespace":
      return keep(String.raw`[${wordCharacters}]+|[^${wordCharacters}\s]+`);
    case "WhitespaceSplit":
      return keep(String.raw`\S+`);
    case "BertPreTokenizer":
      return sequence(keep(String.raw`\S+`), isolate(punctuation));
    case "Punctuation":
      return split({ pattern: { Regex: punctuation }, behavior: config.behavior ?? "Isolated" });
    case "Digits":
      return split({
        pattern: { Regex: String.raw`\p{N}` },
        behavior: config.individual_digits === true ? "Isolated" : "Contiguous",
      });
    case "CharDelimiterSplit":
      return split({ pattern: { String: config.delimiter }, behavior: "Removed" });
    case "FixedLength":
      return keep(String.raw`[\s\S]{1,${String(config.length)}}`);
    case "Split":
      return bounded(config, split(config));
    default:
      return bounded(config, part);
  }
}

/** Marks a part whose regular expression is not to be searched for by JavaScript's engine, for linearTime(). */
function bounded({ pattern }: Config, part: unknown): unknown {
  const source = (pattern as Config | null | undefined)?.Regex;
  return typeof source !== "string" || isKnownExpression(source) ? part : { ...(part as Config), linear: true };
}

/** A part of the library, as it was made of a configuration. */
interface LibraryPart {
  config?: { linear?: unknown };
  pattern?: unknown;
  normalizers?: (LibraryPart | null)[];
  tokenizers?: (LibraryPart | null)[];
}

/**
 * Gives the library's normalizer, or pre-tokenizer, expressions that take linear time where those of its tokenizer.json
 * are not known to. Throws ERR_FORMAT for expressions that cannot be searched for in linear time.
 */
export function linearTime(libraryPart: object | null): void {
  const part = libraryPart as LibraryPart | null;
  if (part?.config?.linear === true && part.pattern instanceof RegExp)
    part.pattern = new LinearExpression(part.pattern.source);
  for (const inner of part?.normalizers ?? part?.tokenizers ?? []) linearTime(inner);
}

/** Older files have `add_prefix_space` for `prepend_scheme`; unless `split` is false, each word is a piece. */
function metaspace(config: Config): Config {
  const { prepend_scheme: scheme, add_prefix_space: prefixed, replacement = "\u2581" } = config;
  const part = { ...config, prepend_scheme: scheme ?? (prefixed === false ? "never" : "always") };
  if (config.split === false) return part;
  return sequence(part, split({ pattern: { String: replacement }, behavior: "MergedWithNext" }));
}

/** `Split` of any behaviour, by an expression of the pieces that it leaves. */
function split(config: Config): Config {
  const { pattern, behavior, invert = false } = config as { pattern?: Config; behavior?: unknown; invert?: unknown };
  const source = typeof pattern?.String === "string" ? escaped(pattern.String) : pattern?.Regex;
  if (typeof source !== "string" || source === "") return config;
  const match = `(?:${source})`;
  const between = String.raw`(?:(?!${source})[\s\S])+`;
  switch (behavior) {
    case "Isolated":
      return isolate(source);
    case "Removed":
      // Where the library splits a text, what a group has caught would be a piece.
      return invert === true ? keep(match) : { ...isolate(withoutGroups(source)), behavior };
    case "Contiguous":
      return keep(`${match}+|${between}`);
    case "MergedWithPrevious":
      return keep(invert === true ? `${match}(?:${between})?|${between}` : `${between}${match}?|${match}`);
    case "MergedWithNext":
      return keep(invert === true ? `${between}${match}?|${match}` : `${match}(?:${between})?|${between}`);
    default:
      return config;
  }
}

/** The expression with groups that catch nothing; in classes of characters, and escaped, parentheses are no groups. */
function withoutGroups(expression: string): string {
  return expression.replace(/\\[^]|\[(?:\\[^]|[^\]\\])*\]|\((?!\?)/g, (found) => (found === "(" ? "(?:" : found));
}

function escaped(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
}

/** The "normalizer" of a tokenizer.json as the library is to get it. */
export function normalizerOf(part: unknown): unknown {
  const config = (part ?? {}) as Config;
  switch (config.type) {
    case "Sequence":
      return Array.isArray(config.normalizers)
        ? { ...config, normalizers: config.normalizers.map(normalizerOf) }
        : part;
    case "Strip":
      return chain(
        ...(config.strip_left === true ? [replace(String.raw`\A\s+`, "")] : []),
        ...(config.strip_right === true ? [replace(String.raw`\s+\z`, "")] : []),
      );
    case "Lowercase":
      return chain(oneSigma, part);
    case "BertNormalizer":
      return chain(
        ...(config.handle_chinese_chars === true ? [rareIdeographs] : []),
        ...(config.lowercase === true ? [oneSigma] : []),
        part,
      );
    case "Prepend":
      // An empty text stays empty.
      return replace(String.raw`\A[\s\S]`, `${literal(shortText("prepend", config.prepend))}$&`);
    case "Replace":
      return bounded(config, { ...config, content: literal(shortText("content", config.content)) });
    default:
      return part;
  }
}

/** Checks a text that a normalizer inserts. It has to be short, since it may be inserted at every character. */
function shortText(name: string, value: unknown): string {
  if (typeof value === "string" && value.length <= 256) return value;
  throw new HeedError(
    "ERR_FORMAT",
    `tokenizer.json: expected a normalizer's ${name} of at most 256 characters, got ${describe(value)}`,
  );
}

const chain = (...normalizers: unknown[]): Config => ({ type: "Sequence", normalizers });
const replace = (expression: string, content: string): Config => ({
  type: "Replace",
  pattern: { Regex: expression },
  content,
});
/** JavaScript's replaceAll takes a $ in what it puts for a match for more than itself. */
const literal = (content: string): string => content.replaceAll("$", "$$$$");
/** JavaScript has another small letter for a capital sigma that ends a word. */
const oneSigma = replace("\u03a3", "\u03c3");
/** Those of more than one UTF-16 unit, each a word. */
const rareIdeographs = replace(
  String.raw`[\x{20000}-\x{2A6DF}\x{2A700}-\x{2B73F}\x{2B740}-\x{2B81F}\x{2B920}-\x{2CEAF}\x{2F800}-\x{2FA1F}]`,
  " $& ",
);
