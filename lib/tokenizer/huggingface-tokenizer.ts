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
import { hiddenId, parseTokenizerJson, type TokenizerDefinition, unnameable } from "./huggingface-json.js";
import { linearTime } from "./pre-tokenizer.js";
import { compileDecoder, type TextDecoding } from "./token-decoder.js";
import { byteStream, checkId, decodeAll, type Tokenizer, type TokenStream } from "./tokenizer.js";

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

/** What is used of the library, whose own types do not resolve under Node's rules for modules. */
interface Encoder {
  normalizer: { normalize(text: string): string } | null;
  pre_tokenizer: { pre_tokenize(text: string, options: { section_index: number }): string[] } | null;
  model(pieces: string[]): string[];
  post_processor: {
    post_process(tokens: string[], pair: null, addSpecialTokens: boolean): { tokens: string[] };
  } | null;
}

const require = createRequire(import.meta.url);

export class HuggingFaceTokenizer implements Tokenizer {
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
    this.#definition = parseTokenizerJson(json);
    this.#decoding = compileDecoder(this.#definition.decoder);
    this.#library = this.#createLibrary();
    this.#plain = this.#finders(false);
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
    const { special = false, addSpecialTokens = true, maxLength = Infinity } = options;
    const [before, after] = addSpecialTokens ? [this.before, this.after] : [[], []];
    const around = before.length + after.length;
    if (maxLength !== Infinity) checkInteger("encode", "maxLength", maxLength, around);
    const ids = this.#idsOfText(text.replace(/\p{Surrogate}/gu, "\ufffd"), special).slice(0, maxLength - around);
    return Int32Array.from([...before, ...ids, ...after]);
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
    try {
      const encoder = new library.Tokenizer(this.#definition.library, this.#config);
      linearTime(encoder.normalizer);
      linearTime(encoder.pre_tokenizer);
      return encoder;
    } catch (cause) {
      if (cause instanceof HeedError) throw cause;
      throw new HeedError("ERR_FORMAT", `tokenizer.json: expected what can be used: ${(cause as Error).message}`, {
        cause,
      });
    }
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
    return this.#library.normalizer?.normalize(text) ?? text;
  }

  #idsOfText(text: string, special: boolean): number[] {
    const [raw, normal] = special ? (this.#whole ??= this.#finders(true)) : this.#plain;
    const { pre_tokenizer: cutter } = this.#library;
    const ids: number[] = [];
    for (const [i, part] of raw.split(text).entries()) {
      const within = typeof part === "number" ? [part] : normal.split(this.#normalize(part));
      for (const [j, piece] of within.entries()) {
        if (typeof piece === "number") {
          ids.push(piece);
          continue;
        }
        const pieces = cutter ? cutter.pre_tokenize(piece, { section_index: i + j }) : [piece];
        for (const token of this.#library.model(pieces)) for (const id of this.#idsOf(token)) ids.push(id);
      }
    }
    return ids;
  }

  /**
   * What the post-processor puts before and after a text. Where it puts nothing, the configuration may ask for the tokens
   * that begin and end one.
   */
  #affixes(): [number[], number[]] {
    const around = this.#library.post_processor?.post_process([unnameable], null, true).tokens ?? [unnameable];
    const at = around.indexOf(unnameable);
    const ids = (tokens: string[]): number[] => tokens.map((token) => this.#idOfName(token));
    if (around.length > 1) return [ids(around.slice(0, at)), ids(around.slice(at + 1))];
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
