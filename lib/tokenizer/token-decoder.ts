// How the tokens of a tokenizer.json become text (huggingface.co/docs/tokenizers, "Decoders"). Tokens are decoded one
// by one: each gives bytes of UTF-8, which a stream joins into characters, so that a text can be shown while it is
// generated. The bytes depend only on the token and on whether it begins the text.
import { describe, HeedError } from "../util/errors.js";
import { atOnce } from "../util/turns.js";
import { isKnownExpression } from "./known-expressions.js";
import { LinearExpression } from "./linear-expression.js";
import { replaceMatches } from "./text-pattern.js";

/** Returns the bytes of a token. `first` is true if the token begins the text. */
export type TokenDecoder = (token: string, first: boolean) => Uint8Array;

/** A compiled decoder. */
export interface TextDecoding {
  bytesOf: TokenDecoder;
  /** The byte that is removed at the beginning of a text, up to `count` times; null if none is. */
  strip: { byte: number; count: number } | null;
}

/** A token that is being decoded: text, until a step has converted it to bytes. */
interface State {
  token: string | Uint8Array;
  first: boolean;
}

type Step = (state: State) => string | Uint8Array;

const encoder = new TextEncoder();

/**
 * Compiles the "decoder" of a tokenizer.json.
 *
 * @throws ERR_FORMAT if the decoder is malformed or unknown.
 */
export function compileDecoder(config: unknown): TextDecoding {
  // Without a decoder, tokens are words that are joined by spaces.
  if (config === null || config === undefined)
    return { bytesOf: (token, first) => encoder.encode(first ? token : ` ${token}`), strip: null };
  const { type, decoders } = Object(config) as { type?: unknown; decoders?: unknown };
  const list: unknown[] = type === "Sequence" ? checkList(decoders) : [config];
  const steps: Step[] = [];
  let strip: TextDecoding["strip"] = null;
  let fused = false;
  for (const item of list) {
    const part = Object(item) as Record<string, unknown>;
    if (part.type === "Fuse") fused = true;
    else if (part.type === "Strip" && fused) strip = stripOfText(part);
    else steps.push(compileStep(part));
  }
  return {
    bytesOf: (token, first) => {
      const state: State = { token, first };
      for (const step of steps) state.token = applied(step, state);
      return typeof state.token === "string" ? encoder.encode(state.token) : state.token;
    },
    strip,
  };
}

/**
 * Applies a step to a token.
 *
 * @throws ERR_FORMAT if the step fails: an engine may accept an expression and fail only when it is applied.
 */
function applied(step: Step, state: State): string | Uint8Array {
  try {
    return step(state);
  } catch (cause) {
    const { message } = cause as Error;
    throw new HeedError("ERR_FORMAT", `tokenizer: expected a decoder that can be applied: ${message.slice(-200)}`, {
      cause,
    });
  }
}

function checkList(decoders: unknown): unknown[] {
  if (Array.isArray(decoders)) return decoders;
  throw new HeedError("ERR_FORMAT", `tokenizer: expected decoders to be an array, got ${describe(decoders)}`);
}

function compileStep(part: Record<string, unknown>): Step {
  switch (part.type) {
    case "ByteLevel":
      return onText(fromByteLevel);
    case "ByteFallback":
      return onText((token) => {
        const hex = /^<0x([0-9A-Fa-f]{2})>$/.exec(token)?.[1];
        return hex === undefined ? token : Uint8Array.of(parseInt(hex, 16));
      });
    case "Metaspace": {
      const space = text("replacement", part.replacement, "\u2581");
      const prefixed = part.prepend_scheme !== "never" && part.add_prefix_space !== false;
      return onText((token, first) => token.replaceAll(space, first && prefixed ? "" : " "));
    }
    case "WordPiece": {
      const prefix = text("prefix", part.prefix, "##");
      return onText((token, first) => {
        const word = first ? token : token.startsWith(prefix) ? token.slice(prefix.length) : ` ${token}`;
        return part.cleanup === false ? word : cleanUp(word);
      });
    }
    case "Replace": {
      const pattern = Object(part.pattern) as { String?: unknown; Regex?: unknown };
      const content = text("content", part.content, "");
      if (typeof pattern.String === "string") {
        const { String: literal } = pattern;
        return onText((token) => token.replaceAll(literal, content));
      }
      const expression = compilePattern(pattern.Regex);
      return onText((token) =>
        expression instanceof LinearExpression
          ? atOnce(replaceMatches(expression, token, () => content))
          : token.replace(expression, () => content),
      );
    }
    case "Strip": {
      const [content, start, stop] = [
        text("content", part.content, " "),
        count("start", part.start),
        count("stop", part.stop),
      ];
      return onText((token) => {
        let [from, to] = [0, token.length];
        while (from < start && token[from] === content) from++;
        while (token.length - to < stop && to > from && token[to - 1] === content) to--;
        return token.slice(from, to);
      });
    }
    default:
      throw new HeedError(
        "ERR_FORMAT",
        `tokenizer: expected a decoder of type ByteLevel, ByteFallback, Metaspace, WordPiece, Replace, Strip, Fuse or ` +
          `Sequence, got ${describe(part.type)}`,
      );
  }
}

/** Returns a step that leaves bytes as they are. */
function onText(step: (token: string, first: boolean) => string | Uint8Array): Step {
  return ({ token, first }) => (typeof token === "string" ? step(token, first) : token);
}

/**
 * Returns what a Strip step removes from the text as a whole. Tokens are decoded one by one, so that only the beginning
 * of the text can be stripped.
 */
function stripOfText(part: Record<string, unknown>): TextDecoding["strip"] {
  const content = text("content", part.content, " ");
  if (content.length !== 1 || content > "\u007f" || count("stop", part.stop) > 0)
    throw new HeedError(
      "ERR_FORMAT",
      `tokenizer: expected Strip after Fuse to take one ASCII character from the start, got ${describe(content)}`,
    );
  return { byte: content.charCodeAt(0), count: count("start", part.start) };
}

function compilePattern(given: unknown): RegExp | LinearExpression {
  const source = text("Regex", given, "(?!)");
  try {
    const expression = new RegExp(source, "gu");
    return isKnownExpression(source) ? expression : new LinearExpression(expression.source);
  } catch (cause) {
    if (cause instanceof HeedError) throw cause;
    throw new HeedError("ERR_FORMAT", `tokenizer: expected a regular expression, got ${describe(given)}`, { cause });
  }
}

/** Returns the option as a text, or `otherwise` if it is not set. */
function text(name: string, value: unknown, otherwise: string): string {
  const given = value ?? otherwise;
  if (typeof given === "string") return given;
  throw new HeedError("ERR_FORMAT", `tokenizer: expected a decoder's ${name} to be a string, got ${describe(value)}`);
}

/** Returns the option as a number of characters, or 0 if it is not set. */
function count(name: string, value: unknown): number {
  const given = value ?? 0;
  if (Number.isSafeInteger(given) && (given as number) >= 0) return given as number;
  throw new HeedError(
    "ERR_FORMAT",
    `tokenizer: expected a decoder's ${name} to be an integer of at least 0, got ${describe(value)}`,
  );
}

/** Removes the spaces before English punctuation and contractions in one token, as BERT's tokenizer does. */
function cleanUp(word: string): string {
  return word
    .replaceAll(" .", ".")
    .replaceAll(" ?", "?")
    .replaceAll(" !", "!")
    .replaceAll(" ,", ",")
    .replaceAll(" ' ", "'")
    .replaceAll(" n't", "n't")
    .replaceAll(" 'm", "'m")
    .replaceAll(" 's", "'s")
    .replaceAll(" 've", "'ve")
    .replaceAll(" 're", "'re");
}

/**
 * Maps the characters that stand for bytes to the bytes, as in GPT-2: a printable byte stands for itself, the others
 * are numbered from U+0100 on.
 */
export const byteLevel: ReadonlyMap<string, number> = (() => {
  const prints = (byte: number): boolean =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
  let others = 0;
  return new Map(
    Array.from({ length: 256 }, (_, byte) => [String.fromCharCode(prints(byte) ? byte : 256 + others++), byte]),
  );
})();

/**
 * Returns the bytes of a byte-level token. If one of its characters stands for no byte, the token is taken as plain
 * text.
 */
function fromByteLevel(token: string): Uint8Array {
  const bytes = new Uint8Array(token.length);
  for (let i = 0; i < token.length; i++) {
    const byte = byteLevel.get(token[i]!);
    if (byte === undefined) return encoder.encode(token);
    bytes[i] = byte;
  }
  return bytes;
}
