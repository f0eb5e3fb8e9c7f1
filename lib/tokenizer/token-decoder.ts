// How the tokens of a tokenizer.json become text (huggingface.co/docs/tokenizers, "Decoders"), a token at a time: each
// gives bytes of UTF-8, which a stream joins into characters, so that a text can be shown while it is generated.
// Which bytes depends on the token and on whether it begins the text, and on nothing else.
import { describe, HeedError } from "../errors.js";
import { atOnce } from "../turns.js";
import { isKnownExpression } from "./known-expressions.js";
import { LinearExpression } from "./linear-expression.js";
import { replaceMatches } from "./text-pattern.js";

/** The bytes of a token. */
export type TokenDecoder = (token: string, first: boolean) => Uint8Array;

export interface TextDecoding {
  bytesOf: TokenDecoder;
  /** How many of this byte the beginning of a text loses, over its first tokens. */
  strip: { byte: number; count: number } | null;
}

/** A token on its way to bytes: text, until a step has made bytes of it. */
interface State {
  token: string | Uint8Array;
  first: boolean;
}

type Step = (state: State) => string | Uint8Array;

const encoder = new TextEncoder();

/** Compiles the "decoder" of a tokenizer.json. Throws ERR_FORMAT for one that is not known. */
export function compileDecoder(config: unknown): TextDecoding {
  // Without a decoder tokens are words.
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

/** Engines find out late what an expression asks of them. */
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
  throw new HeedError("ERR_FORMAT", `tokenizer: expected decoders in an array, got ${describe(decoders)}`);
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
        `tokenizer: expected a decoder of ByteLevel, ByteFallback, Metaspace, WordPiece, Replace, Strip, Fuse or a ` +
          `Sequence of them, got ${describe(part.type)}`,
      );
  }
}

/** A step that leaves alone what is bytes already. */
function onText(step: (token: string, first: boolean) => string | Uint8Array): Step {
  return ({ token, first }) => (typeof token === "string" ? step(token, first) : token);
}

/** Of a text as a whole: only its beginning can be stripped while the rest is not known. */
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

/** A text, or `otherwise` where nothing is said. */
function text(name: string, value: unknown, otherwise: string): string {
  const given = value ?? otherwise;
  if (typeof given === "string") return given;
  throw new HeedError("ERR_FORMAT", `tokenizer: expected a decoder's ${name} to be a text, got ${describe(value)}`);
}

/** A number of characters; 0 where nothing is said. */
function count(name: string, value: unknown): number {
  const given = value ?? 0;
  if (Number.isSafeInteger(given) && (given as number) >= 0) return given as number;
  throw new HeedError(
    "ERR_FORMAT",
    `tokenizer: expected a decoder's ${name} to be an integer from 0, got ${describe(value)}`,
  );
}

/** English without the spaces before its signs, as BERT's tokenizer writes it, a token at a time. */
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

/** The bytes by the characters that stand for them: those that print for themselves, the others from U+0100 on (GPT-2). */
export const byteLevel: ReadonlyMap<string, number> = (() => {
  const prints = (byte: number): boolean =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
  let others = 0;
  return new Map(
    Array.from({ length: 256 }, (_, byte) => [String.fromCharCode(prints(byte) ? byte : 256 + others++), byte]),
  );
})();

/** The bytes of a byte-level token; those of its text where it has a character that stands for no byte. */
function fromByteLevel(token: string): Uint8Array {
  const bytes = new Uint8Array(token.length);
  for (let i = 0; i < token.length; i++) {
    const byte = byteLevel.get(token[i]!);
    if (byte === undefined) return encoder.encode(token);
    bytes[i] = byte;
  }
  return bytes;
}
