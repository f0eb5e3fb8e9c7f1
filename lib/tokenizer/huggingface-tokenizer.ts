// The tokenizers of published models: tokenizer.json, as Hugging Face's libraries write it, with byte-level BPE,
// WordPiece or Unigram in it. Text is encoded by Hugging Face's own library for JavaScript; ids are decoded here, since
// a stream of them must never show half a character.
import { createRequire } from "node:module";
import path from "node:path";
import { checkInteger } from "../check.js";
import { describe, HeedError } from "../errors.js";
import { ifThere, inFile, readJsonFile, readTextFile } from "../files.js";
import { type ChatMessage, type ChatOptions, ChatTemplate } from "./chat-template.js";
import { TokenFinder } from "./added-tokens.js";
import { hiddenId, parseTokenizerJson, type TokenizerDefinition } from "./huggingface-json.js";
import { type IdParts, joinParts, joinPartsInTurns } from "./id-parts.js";
import { linearTime } from "./pre-tokenizer.js";
import { compileDecoder, type TextDecoding } from "./token-decoder.js";
import { byteStream, checkId, decodeAll, type TokenStream } from "./token-stream.js";

export interface HuggingFaceEncodeOptions {
  /**
   * Whether the names of special tokens in the text ("<|im_end|>") become their ids; false unless given, as for text of
   * users, where they are signs like any others.
   */
  special?: boolean;
  /** Whether the tokens that begin and end a text are added, where the tokenizer has such; true unless given. */
  addSpecialTokens?: boolean;
  /** The most ids: of a longer text the end is left out, not the special tokens around it. No limit unless given. */
  maxLength?: number;
}

export interface HuggingFaceDecodeOptions {
  /** Whether special tokens are shown; false unless given. */
  special?: boolean;
}

/** What belongs to a tokenizer beside its tokenizer.json. */
export interface HuggingFaceTokenizerParts {
  /** The tokenizer_config.json: its special tokens and chat template. */
  config?: Readonly<Record<string, unknown>>;
  /** The chat_template.jinja, which comes before the configuration's. */
  chatTemplate?: string | null;
}

interface Normalizer {
  normalize(text: string): string;
  /** The parts of a sequence of normalizers. */
  normalizers?: Normalizer[];
}

/** What is used of the library, whose own types do not resolve under Node's rules for modules. */
interface Encoder {
  normalizer: Normalizer | null;
  pre_tokenizer: { pre_tokenize(text: string, options: { section_index: number }): string[] } | null;
  model: {
    (pieces: string[]): string[];
    encode(pieces: string[]): string[];
    /** Cuts one piece into tokens. Only models with a Unigram vocabulary have it. */
    tokenize?(piece: string): string[];
  };
}

const require = createRequire(import.meta.url);

/** The number of pieces that are handed to the model at once. It needs about a millisecond for them. */
const piecesAtOnce = 256;

export class HuggingFaceTokenizer {
  readonly vocabularySize: number;
  readonly endOfText: number | null;
  /** The id that begins a text; null where the tokenizer has none. */
  readonly beginningOfText: number | null;
  /** null where the model came without one. */
  readonly chatTemplate: ChatTemplate | null;
  readonly #json: unknown;
  readonly #config: Readonly<Record<string, unknown>>;
  readonly #definition: TokenizerDefinition;
  readonly #decoding: TextDecoding;
  readonly #library: Encoder;
  /** Of the tokens that are found in a text as it is, and as it is normalized: without the special ones, and with. */
  readonly #plain: readonly [TokenFinder, TokenFinder];
  #whole: readonly [TokenFinder, TokenFinder] | null = null;
  /** The ids that `encode` puts before a text. */
  readonly before: readonly number[];
  /** The ids that `encode` puts after a text. */
  readonly after: readonly number[];

  /** `json` is what a tokenizer.json holds. Throws ERR_FORMAT for what is not understood. */
  constructor(json: unknown, { config = {}, chatTemplate = null }: HuggingFaceTokenizerParts = {}) {
    if (typeof config !== "object" || config === null || Array.isArray(config))
      throw new HeedError(
        "ERR_FORMAT",
        `tokenizer: expected an object for its configuration (tokenizer_config.json), got ${describe(config)}`,
      );
    this.#json = json;
    this.#config = config;
    this.#definition = trusting(() => parseTokenizerJson(json));
    this.#decoding = compileDecoder(this.#definition.decoder);
    this.#library = trusting(() => this.#createLibrary());
    this.#plain = this.#finders(false);
    // Encoding one letter now finds parts that cannot process any text.
    this.#tokensOf(this.#cut(this.#normalize("a"), 0));
    this.vocabularySize = this.#definition.tokens.length;
    this.endOfText = this.#specialId("eos_token");
    this.beginningOfText = this.#specialId("bos_token");
    [this.before, this.after] = this.#affixes();
    this.chatTemplate = this.#readTemplate(chatTemplate);
  }

  /**
   * The tokenizer in a model's folder: tokenizer.json, and tokenizer_config.json and chat_template.jinja where they are.
   * Throws ERR_IO or ERR_FORMAT, naming the file.
   */
  static async fromFolder(folder: string): Promise<HuggingFaceTokenizer> {
    const file = path.join(folder, "tokenizer.json");
    const json = await readJsonFile(file);
    const config = (await ifThere(path.join(folder, "tokenizer_config.json"), readJsonFile)) ?? {};
    const chatTemplate = await ifThere(path.join(folder, "chat_template.jinja"), readTextFile);
    const parts = { config: config as Record<string, unknown>, chatTemplate };
    return inFile(file, () => new HuggingFaceTokenizer(json, parts));
  }

  encode(text: string, options: HuggingFaceEncodeOptions = {}): Int32Array {
    const { before, after, most } = this.#around(options);
    const ids = joinParts(this.#parts(text, options)).subarray(0, most);
    return joinParts([before, ids, after]);
  }

  /**
   * Resolves to what `encode` gives, in pieces of work between which the event loop goes round. Two things are done at
   * once whatever the text's length: normalizing it and cutting it into words, some tenths of a second a megabyte; and
   * the merges of a word, which with some tokenizers (SentencePiece's) is the whole text.
   */
  async encodeAsync(text: string, options: HuggingFaceEncodeOptions = {}): Promise<Int32Array> {
    const { before, after, most } = this.#around(options);
    const ids = (await joinPartsInTurns(this.#parts(text, options))).subarray(0, most);
    return joinParts([before, ids, after]);
  }

  /** A conversation, by the model's template. Throws ERR_ARGUMENT where the model has none. */
  encodeChat(messages: readonly ChatMessage[], options: ChatOptions = {}): Int32Array {
    if (!this.chatTemplate)
      throw new HeedError("ERR_ARGUMENT", "encodeChat: expected a tokenizer with a chat template, got one without");
    const text = this.chatTemplate.render(messages, options);
    return this.encode(text, { special: true, addSpecialTokens: false });
  }

  decode(ids: Iterable<number>, options: HuggingFaceDecodeOptions = {}): string {
    return decodeAll(this.stream(options), ids);
  }

  stream({ special = false }: HuggingFaceDecodeOptions = {}): TokenStream {
    const { bytesOf, strip } = this.#decoding;
    let first = true;
    let strippable = strip?.count ?? 0;
    return byteStream((id) => {
      checkId(this, id);
      const token = this.#definition.tokens[id];
      if (token === undefined || (!special && this.#definition.special.has(id))) return new Uint8Array(0);
      let bytes = bytesOf(token, first);
      first = false;
      while (strippable > 0 && bytes.length > 0) {
        strippable = bytes[0] === strip!.byte ? strippable - 1 : 0;
        if (bytes[0] === strip!.byte) bytes = bytes.subarray(1);
      }
      return bytes;
    });
  }

  toJSON(): {
    type: "huggingface";
    tokenizer: unknown;
    config: Readonly<Record<string, unknown>>;
    chatTemplate: string | null;
  } {
    return {
      type: "huggingface",
      tokenizer: this.#json,
      config: this.#config,
      chatTemplate: this.chatTemplate?.source ?? null,
    };
  }

  #createLibrary(): Encoder {
    // Loaded here, since most programs have a tokenizer of another kind.
    const library = require("@huggingface/tokenizers") as {
      Tokenizer: new (json: object, config: object) => Encoder;
    };
    const encoder = new library.Tokenizer(this.#definition.library, this.#config);
    linearTime(encoder.normalizer);
    linearTime(encoder.pre_tokenizer);
    const { model } = encoder;
    // Its own hands all tokens of a piece to one call, for which long pieces have too many.
    if (model.tokenize) model.encode = (pieces) => pieces.flatMap((piece) => model.tokenize!(piece));
    return encoder;
  }

  #finders(special: boolean): [TokenFinder, TokenFinder] {
    const tokens = this.#definition.added.filter((token) => special || !token.special);
    const raw = tokens.filter(({ normalized }) => !normalized).map((token) => [token.content, token] as const);
    const normal = tokens
      .filter(({ normalized }) => normalized)
      .map((token) => [this.#normalize(token.content), token] as const);
    return [new TokenFinder(raw), new TokenFinder(normal)];
  }

  #normalize(text: string): string {
    const { normalizer } = this.#library;
    return normalizer ? trusting(() => normalized(text, normalizer, 16 * text.length + 4096)) : text;
  }

  /** The pieces for the model of a text without added tokens, which is the `index`-th part of a whole one. */
  #cut(text: string, index: number): string[] {
    const { pre_tokenizer: cutter } = this.#library;
    return cutter ? trusting(() => cutter.pre_tokenize(text, { section_index: index })) : [text];
  }

  #tokensOf(pieces: string[]): string[] {
    return trusting(() => this.#library.model(pieces));
  }

  /** Returns the ids to put before and after a text's own, and the most ids that the text itself may have. */
  #around({ addSpecialTokens = true, maxLength = Infinity }: HuggingFaceEncodeOptions) {
    const [before, after] = addSpecialTokens ? [this.before, this.after] : [[], []];
    const around = before.length + after.length;
    if (maxLength !== Infinity) checkInteger("encode", "maxLength", maxLength, around);
    return { before, after, most: maxLength - around };
  }

  *#parts(text: string, { special = false }: HuggingFaceEncodeOptions): IdParts {
    const [raw, normal] = special ? (this.#whole ??= this.#finders(true)) : this.#plain;
    for (const [i, part] of raw.split(text.replace(/\p{Surrogate}/gu, "\ufffd")).entries()) {
      const within = typeof part === "number" ? [part] : normal.split(this.#normalize(part));
      for (const [j, piece] of within.entries()) {
        if (typeof piece === "number") yield [piece];
        else yield* this.#partsOf(this.#cut(piece, i + j));
      }
    }
  }

  /** The ids of what a text was cut into. The library's model takes many of them at a time. */
  *#partsOf(pieces: string[]): IdParts {
    const { pieces: known, unknown } = this.#definition;
    for (let from = 0, to = 0; from < pieces.length; from = to) {
      let tokens: string[];
      let last: number | undefined;
      // Tokens that are not known are one where they follow each other: none is cut off from the next.
      do {
        to = Math.min(Math.max(to + piecesAtOnce, from + 2 * (to - from)), pieces.length);
        tokens = this.#tokensOf(pieces.slice(from, to));
        last = known.get(tokens.at(-1) ?? "");
      } while (to < pieces.length && (last === undefined || last === unknown));
      yield tokens.flatMap((token) => this.#idsOf(token));
    }
  }

  /**
   * What the post-processor puts before and after a text. Where it puts nothing, the configuration may ask for the tokens
   * that begin and end one.
   */
  #affixes(): [number[], number[]] {
    const { before, after } = this.#definition.affixes;
    const ids = (tokens: readonly string[]): number[] => tokens.map((token) => this.#idOfName(token));
    if (before.length + after.length > 0) return [ids(before), ids(after)];
    const { add_bos_token: begins, add_eos_token: ends } = this.#config;
    const given = (wanted: unknown, id: number | null): number[] => (wanted === true && id !== null ? [id] : []);
    return [given(begins, this.beginningOfText), given(ends, this.endOfText)];
  }

  #idOfName(token: string): number {
    const id = this.#definition.ids.get(token);
    if (id !== undefined) return id;
    throw new HeedError(
      "ERR_FORMAT",
      `tokenizer.json: expected the post-processor to add tokens of the vocabulary, got ${JSON.stringify(token)}`,
    );
  }

  /** Of what the library's model makes of a text. */
  #idsOf(token: string): number[] {
    const { pieces, ids, unknown, byteFallback } = this.#definition;
    const hidden = hiddenId(token);
    if (hidden !== null) return [hidden];
    const id = pieces.get(token);
    if (id !== undefined) return [id];
    const bytes = byteFallback ? Array.from(new TextEncoder().encode(token), (byte) => ids.get(byteName(byte))) : [];
    if (bytes.length > 0 && bytes.every((byte) => byte !== undefined)) return bytes;
    if (unknown !== null) return [unknown];
    throw new HeedError("ERR_RANGE", `tokenizer: expected text of the vocabulary, got ${JSON.stringify(token)}`);
  }

  /** The id of a special token that the configuration names. */
  #specialId(name: string): number | null {
    const token = specialToken(this.#config[name]);
    return token === null ? null : (this.#definition.ids.get(token) ?? null);
  }

  #readTemplate(source: string | null): ChatTemplate | null {
    const given = source ?? templateOf(this.#config.chat_template);
    if (given === null) return null;
    const named = Object.keys(this.#config).filter((name) => name.endsWith("_token"));
    const variables = Object.fromEntries(named.map((name) => [name, specialToken(this.#config[name])]));
    return new ChatTemplate(given, variables);
  }
}

/** Runs what relies on a tokenizer.json to be as it should: whatever it throws else is an ERR_FORMAT. */
function trusting<T>(body: () => T): T {
  try {
    return body();
  } catch (cause) {
    if (cause instanceof HeedError) throw cause;
    const { message } = cause as Error;
    throw new HeedError("ERR_FORMAT", `tokenizer.json: expected what can be used: ${message.slice(0, 500)}`, { cause });
  }
}

/** A text normalized, of at most so many characters after each step: in a few steps it could grow beyond all bounds. */
function normalized(text: string, step: Normalizer, most: number): string {
  if (step.normalizers) return step.normalizers.reduce((given, part) => normalized(given, part, most), text);
  const result = step.normalize(text);
  if (result.length <= most) return result;
  throw new HeedError(
    "ERR_FORMAT",
    `tokenizer.json: expected normalizers that make at most ${most} characters of a text`,
  );
}

/** A byte's token where what is unknown is spelt in bytes. */
function byteName(byte: number): string {
  return `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;
}

/** A special token is given by its text, or with it. */
function specialToken(value: unknown): string | null {
  if (typeof value === "string") return value;
  const content = (value as { content?: unknown } | null)?.content;
  return typeof content === "string" ? content : null;
}

/** The template of a configuration: one, or several of which one is called "default". */
function templateOf(value: unknown): string | null {
  if (value === undefined || value === null) return null;
  if (typeof value === "string") return value;
  const list = Array.isArray(value) ? (value as { name?: unknown; template?: unknown }[]) : [];
  const template = list.find((entry) => entry?.name === "default")?.template;
  if (typeof template === "string") return template;
  throw new HeedError(
    "ERR_FORMAT",
    `chat template: expected a text or a list with a "default", got ${describe(value)}`,
  );
}
