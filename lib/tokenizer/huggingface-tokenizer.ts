// The tokenizers of published models: tokenizer.json, as Hugging Face's libraries write it, with byte-level BPE,
// WordPiece or Unigram in it. A text is normalized, cut into pieces and encoded in steps, between which a long one can rest.
import path from "node:path";
import { checkInteger } from "../check.js";
import { describe, HeedError } from "../errors.js";
import { ifThere, inFile, readJsonFile, readTextFile } from "../files.js";
import { atOnce, inTurns, type Steps } from "../turns.js";
import { type ChatMessage, type ChatOptions, ChatTemplate } from "./chat-template.js";
import { type AddedToken, type Part, TokenFinder } from "./added-tokens.js";
import { parseTokenizerJson, type TokenizerDefinition } from "./huggingface-json.js";
import { firstIds, IdList, type IdParts, joinParts, joinPartsInTurns, partLength } from "./id-parts.js";
import { compileDecoder, type TextDecoding } from "./token-decoder.js";
import { byteStream, checkId, decodeAll, type TokenStream } from "./token-stream.js";
import type { WordCache } from "./token-model.js";

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

/** The form in which a checkpoint keeps a tokenizer. */
interface HuggingFaceJson {
  type: "huggingface";
  tokenizer: unknown;
  config: Readonly<Record<string, unknown>>;
  chatTemplate: string | null;
}

/** Those of the tokens that are found in a text as it is, and as it is normalized. */
type Finders = readonly [TokenFinder, TokenFinder];

/** Holds what is made of a tokenizer.json, which takes a while. */
interface Prepared {
  readonly definition: TokenizerDefinition;
  readonly decoding: TextDecoding;
  /** Without special tokens, and with them. */
  readonly plain: Finders;
  readonly whole: Finders;
}

export class HuggingFaceTokenizer {
  readonly vocabularySize: number;
  readonly endOfText: number | null;
  /** The id that begins a text; null where the tokenizer has none. */
  readonly beginningOfText: number | null;
  /** null where the model came without one. */
  readonly chatTemplate: ChatTemplate | null;
  readonly #json: unknown;
  readonly #config: Readonly<Record<string, unknown>>;
  readonly #prepared: Prepared;
  /** The ids that `encode` puts before a text. */
  readonly before: readonly number[];
  /** The ids that `encode` puts after a text. */
  readonly after: readonly number[];

  /**
   * `json` is what a tokenizer.json holds. Holds the thread until it is done, some tenths of a second for a large
   * vocabulary: `load` and `fromFolder` do not. Throws ERR_FORMAT for what is not understood.
   */
  constructor(json: unknown, parts?: HuggingFaceTokenizerParts);
  /** @internal */
  constructor(json: unknown, parts: HuggingFaceTokenizerParts | undefined, prepared: Prepared);
  constructor(json: unknown, parts: HuggingFaceTokenizerParts = {}, prepared = atOnce(prepare(json))) {
    const { config = {}, chatTemplate = null } = parts;
    if (typeof config !== "object" || config === null || Array.isArray(config))
      throw new HeedError(
        "ERR_FORMAT",
        `tokenizer: expected an object for its configuration (tokenizer_config.json), got ${describe(config)}`,
      );
    this.#json = json;
    this.#config = config;
    this.#prepared = prepared;
    this.vocabularySize = prepared.definition.tokens.length;
    this.endOfText = this.#specialId("eos_token");
    this.beginningOfText = this.#specialId("bos_token");
    [this.before, this.after] = this.#affixes();
    this.chatTemplate = this.#readTemplate(chatTemplate);
  }

  /** Resolves to what the constructor makes, in pieces of work between which the event loop goes round. */
  static async load(json: unknown, parts: HuggingFaceTokenizerParts = {}): Promise<HuggingFaceTokenizer> {
    return inTurns(HuggingFaceTokenizer.steps(json, parts));
  }

  /** @internal */
  static *steps(json: unknown, parts: HuggingFaceTokenizerParts = {}): Steps<HuggingFaceTokenizer> {
    return new HuggingFaceTokenizer(json, parts, yield* prepare(json));
  }

  /**
   * The tokenizer in a model's folder: tokenizer.json, and tokenizer_config.json and chat_template.jinja where they are.
   * Throws ERR_IO or ERR_FORMAT, naming the file.
   */
  static async fromFolder(folder: string): Promise<HuggingFaceTokenizer> {
    const file = path.join(folder, "tokenizer.json");
    const json = await readJsonFile(file, { asMap: "vocab" });
    const config = (await ifThere(path.join(folder, "tokenizer_config.json"), (name) => readJsonFile(name))) ?? {};
    const chatTemplate = await ifThere(path.join(folder, "chat_template.jinja"), readTextFile);
    const parts = { config: config as Record<string, unknown>, chatTemplate };
    return inFile(file, () => HuggingFaceTokenizer.load(json, parts));
  }

  encode(text: string, options: HuggingFaceEncodeOptions = {}): Int32Array {
    return joinParts(this.#parts(text, options));
  }

  /** Resolves to what `encode` gives, in pieces of work between which the event loop goes round. */
  async encodeAsync(text: string, options: HuggingFaceEncodeOptions = {}): Promise<Int32Array> {
    return joinPartsInTurns(this.#parts(text, options));
  }

  /** A conversation, by the model's template. Throws ERR_ARGUMENT where the model has none. */
  encodeChat(messages: readonly ChatMessage[], options: ChatOptions = {}): Int32Array {
    return this.encode(this.#chatText(messages, options), { special: true, addSpecialTokens: false });
  }

  /** Resolves to what `encodeChat` gives. The tokens are made in pieces of work, as by `encodeAsync`. */
  async encodeChatAsync(messages: readonly ChatMessage[], options: ChatOptions = {}): Promise<Int32Array> {
    return this.encodeAsync(this.#chatText(messages, options), { special: true, addSpecialTokens: false });
  }

  #chatText(messages: readonly ChatMessage[], options: ChatOptions): string {
    if (this.chatTemplate) return this.chatTemplate.render(messages, options);
    throw new HeedError("ERR_ARGUMENT", "encodeChat: expected a tokenizer with a chat template, got one without");
  }

  decode(ids: Iterable<number>, options: HuggingFaceDecodeOptions = {}): string {
    return decodeAll(this.stream(options), ids);
  }

  stream({ special = false }: HuggingFaceDecodeOptions = {}): TokenStream {
    const { bytesOf, strip } = this.#prepared.decoding;
    const { tokens, special: hidden } = this.#prepared.definition;
    let first = true;
    let strippable = strip?.count ?? 0;
    return byteStream((id) => {
      checkId(this, id);
      const token = tokens[id];
      if (token === undefined || (!special && hidden.has(id))) return new Uint8Array(0);
      let bytes = bytesOf(token, first);
      first = false;
      while (strippable > 0 && bytes.length > 0) {
        strippable = bytes[0] === strip!.byte ? strippable - 1 : 0;
        if (bytes[0] === strip!.byte) bytes = bytes.subarray(1);
      }
      return bytes;
    });
  }

  toJSON(): HuggingFaceJson {
    const { tokenizer, ...parts } = this.toFile();
    const { model } = tokenizer as { model: { vocab: unknown } };
    if (!(model.vocab instanceof Map)) return { ...parts, tokenizer };
    const vocab = Object.fromEntries(model.vocab as ReadonlyMap<string, number>);
    return { ...parts, tokenizer: { ...(tokenizer as object), model: { ...model, vocab } } };
  }

  /** @internal What `toJSON` returns, with a vocabulary that may be a Map: making an object of it takes a while. */
  toFile(): HuggingFaceJson {
    return {
      type: "huggingface",
      tokenizer: this.#json,
      config: this.#config,
      chatTemplate: this.chatTemplate?.source ?? null,
    };
  }

  /** Returns the ids to put before and after a text's own, and the most ids that the text itself may have. */
  #around({ addSpecialTokens = true, maxLength = Infinity }: HuggingFaceEncodeOptions) {
    const [before, after] = addSpecialTokens ? [this.before, this.after] : [[], []];
    const around = before.length + after.length;
    if (maxLength !== Infinity) checkInteger("encode", "maxLength", maxLength, around);
    return { before, after, most: maxLength - around };
  }

  *#parts(text: string, options: HuggingFaceEncodeOptions): IdParts {
    const { before, after, most } = this.#around(options);
    const { definition, plain, whole } = this.#prepared;
    const finders = (options.special ?? false) ? whole : plain;
    yield before;
    yield* firstIds(trusting(encoded(text.toWellFormed(), definition, finders)), most);
    yield after;
  }

  /**
   * What the post-processor puts before and after a text. Where it puts nothing, the configuration may ask for the tokens
   * that begin and end one.
   */
  #affixes(): [number[], number[]] {
    const { before, after } = this.#prepared.definition.affixes;
    const ids = (tokens: readonly string[]): number[] => tokens.map((token) => this.#idOfName(token));
    if (before.length + after.length > 0) return [ids(before), ids(after)];
    const { add_bos_token: begins, add_eos_token: ends } = this.#config;
    const given = (wanted: unknown, id: number | null): number[] => (wanted === true && id !== null ? [id] : []);
    return [given(begins, this.beginningOfText), given(ends, this.endOfText)];
  }

  #idOfName(token: string): number {
    const id = this.#prepared.definition.idOf(token);
    if (id !== undefined) return id;
    throw new HeedError(
      "ERR_FORMAT",
      `tokenizer.json: expected the post-processor to add tokens of the vocabulary, got ${JSON.stringify(token)}`,
    );
  }

  /** The id of a special token that the configuration names. */
  #specialId(name: string): number | null {
    const token = specialToken(this.#config[name]);
    return token === null ? null : (this.#prepared.definition.idOf(token) ?? null);
  }

  #readTemplate(source: string | null): ChatTemplate | null {
    const given = source ?? templateOf(this.#config.chat_template);
    if (given === null) return null;
    const named = Object.keys(this.#config).filter((name) => name.endsWith("_token"));
    const variables = Object.fromEntries(named.map((name) => [name, specialToken(this.#config[name])]));
    return new ChatTemplate(given, variables);
  }
}

function* prepare(json: unknown): Steps<Prepared> {
  return yield* trusting(
    (function* () {
      const definition = yield* parseTokenizerJson(json);
      const decoding = compileDecoder(definition.decoder);
      const plain = yield* findersOf(
        definition,
        definition.added.filter((token) => !token.special),
      );
      const whole = yield* findersOf(definition, definition.added);
      // Encoding one letter now finds parts that cannot process any text.
      joinParts(encoded("a", definition, plain));
      return { definition, decoding, plain, whole };
    })(),
  );
}

function* findersOf({ normalize }: TokenizerDefinition, tokens: readonly AddedToken[]): Steps<Finders> {
  const [raw, normal]: [string, AddedToken][][] = [[], []];
  for (const token of tokens)
    if (token.normalized) normal!.push([yield* normalize(token.content), token]);
    else raw!.push([token.content, token]);
  return [yield* TokenFinder.of(raw!), yield* TokenFinder.of(normal!)];
}

/** Yields the ids of a text, and undefined where work can rest. */
function* encoded(text: string, definition: TokenizerDefinition, finders: Finders): Generator<Int32Array | undefined> {
  const { cut, model } = definition;
  const words: WordCache = new Map();
  let first = true;
  let ids = new IdList();
  for (const section of sectionsOf(text, definition, finders)) {
    if (section === undefined) yield;
    else if (typeof section === "number") ids.push(section);
    else if (section !== "")
      for (const piece of cut(section, first)) {
        if (piece === undefined) yield;
        else yield* model.encode(piece, ids, words);
        if (ids.length < partLength) continue;
        for (const [, chunk] of ids.chunks()) yield chunk;
        ids = new IdList();
      }
    first &&= section === undefined;
  }
  for (const [, chunk] of ids.chunks()) yield chunk;
}

/** Yields the ids of the added tokens in a text and what lies between, normalized; undefined where work can rest. */
function* sectionsOf(
  text: string,
  { normalize }: TokenizerDefinition,
  [raw, normal]: Finders,
): Generator<Part | undefined> {
  for (const part of raw.split(text)) {
    if (typeof part !== "string") {
      yield part;
      continue;
    }
    const within = yield* normalize(part);
    if (within === "") yield "";
    yield* normal.split(within);
  }
}

/** Does what relies on a tokenizer.json to be as it should: whatever it throws else is an ERR_FORMAT. */
function* trusting<Y, R>(steps: Generator<Y, R>): Generator<Y, R> {
  try {
    return yield* steps;
  } catch (cause) {
    if (cause instanceof HeedError) throw cause;
    const { message } = cause as Error;
    throw new HeedError("ERR_FORMAT", `tokenizer.json: expected what can be used: ${message.slice(0, 500)}`, { cause });
  }
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
