// The tokenizers of published models: a tokenizer.json, as Hugging Face's libraries write it, with a BPE, WordPiece or
// Unigram model, and the special tokens and the chat template that lie beside it.
import path from "node:path";
import { checkInteger } from "../util/check.js";
import { describe, HeedError } from "../util/errors.js";
import { ifThere, inFile, readJsonFile, readTextFile } from "../util/files.js";
import { atOnce, inTurns, type Steps } from "../util/turns.js";
import { type ChatMessage, type ChatOptions, ChatTemplate } from "./chat-template.js";
import { renderChat } from "./chat-thread.js";
import { rangesWithin } from "./jinja/ranges.js";
import type { RenderedText } from "./jinja/template.js";
import { firstIds, type IdParts, joinParts, joinPartsInTurns } from "./id-parts.js";
import type { Piece, Templates } from "./post-processor.js";
import { encodeSteps, prepare, type Prepared } from "./prepared-tokenizer.js";
import { type EncodedPair, joinPair } from "./text-pair.js";
import { byteStream, checkId, decodeAll, type TokenStream } from "./token-stream.js";

/** Options for encoding a text. */
export interface HuggingFaceEncodeOptions {
  /**
   * True if the names of special tokens in the text ("<|im_end|>") become their ids. By default they are encoded like
   * any other text, which is safe for text from users.
   *
   * @default false
   */
  special?: boolean;
  /** True if the tokens that begin and end a text are added. Some tokenizers have none. @default true */
  addSpecialTokens?: boolean;
  /**
   * Maximum number of ids, including the special tokens around the text. The end of a longer text is cut off; the
   * special tokens stay.
   *
   * @default Infinity
   */
  maxLength?: number;
}

/** Options for decoding ids. */
export interface HuggingFaceDecodeOptions {
  /** True if special tokens are part of the text. @default false */
  special?: boolean;
}

/** The parts of a tokenizer that lie beside its tokenizer.json. */
export interface HuggingFaceTokenizerParts {
  /** Content of tokenizer_config.json, which names special tokens and may hold a chat template. @default {} */
  config?: Readonly<Record<string, unknown>>;
  /** Content of chat_template.jinja. It takes precedence over the chat template in `config`. @default null */
  chatTemplate?: string | null;
}

/** The form in which a checkpoint stores a tokenizer. */
export interface HuggingFaceJson {
  type: "huggingface";
  tokenizer: unknown;
  config: Readonly<Record<string, unknown>>;
  chatTemplate: string | null;
}

/**
 * Tokenizer of a published model, from its tokenizer.json.
 *
 * @example
 * const { tokenizer: json } = tokenizer.toHuggingFace().toJSON();
 * const published = new HuggingFaceTokenizer(json);
 * published.decode(published.encode("Hello")); // "Hello"
 *
 * @see https://huggingface.co/docs/tokenizers
 */
export class HuggingFaceTokenizer {
  /** Number of ids; they run from 0 to `vocabularySize - 1`. */
  readonly vocabularySize: number;
  /** The id that ends a text; null if the tokenizer has none. */
  readonly endOfText: number | null;
  /** The id that begins a text; null if the tokenizer has none. */
  readonly beginningOfText: number | null;
  /** The model's chat template; null if the model came without one. */
  readonly chatTemplate: ChatTemplate | null;
  readonly #json: unknown;
  readonly #config: Readonly<Record<string, unknown>>;
  readonly #prepared: Prepared;
  readonly #templates: Templates<number>;
  /** The ids that `encode` puts before a text. */
  readonly before: readonly number[];
  /** The ids that `encode` puts after a text. */
  readonly after: readonly number[];

  /**
   * Creates a tokenizer from the content of a tokenizer.json. The constructor blocks the thread, for a few tenths of a
   * second if the vocabulary is large; `load` and `fromFolder` do not.
   *
   * @throws ERR_FORMAT if a part is malformed or of an unknown kind.
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
    this.#templates = this.#readTemplates();
    [this.before, this.after] = affixesOf(this.#templates);
    this.chatTemplate = this.#readChatTemplate(chatTemplate);
  }

  /**
   * Resolves to the tokenizer that the constructor creates. The work is done in short slices, so that the event loop
   * keeps running.
   *
   * @example
   * const { tokenizer: json } = tokenizer.toHuggingFace().toJSON();
   * const published = await HuggingFaceTokenizer.load(json);
   *
   * @throws ERR_FORMAT if a part is malformed or of an unknown kind.
   */
  static async load(json: unknown, parts: HuggingFaceTokenizerParts = {}): Promise<HuggingFaceTokenizer> {
    return inTurns(HuggingFaceTokenizer.steps(json, parts));
  }

  /** @internal */
  static *steps(json: unknown, parts: HuggingFaceTokenizerParts = {}): Steps<HuggingFaceTokenizer> {
    return new HuggingFaceTokenizer(json, parts, yield* prepare(json));
  }

  /**
   * Resolves to the tokenizer in a model's folder: tokenizer.json and, if they exist, tokenizer_config.json and
   * chat_template.jinja.
   *
   * @example
   * import { mkdir, writeFile } from "node:fs/promises";
   * const { tokenizer: json } = tokenizer.toHuggingFace().toJSON();
   * await mkdir("my-model", { recursive: true });
   * await writeFile("my-model/tokenizer.json", JSON.stringify(json));
   * const published = await HuggingFaceTokenizer.fromFolder("my-model");
   *
   * @throws ERR_IO if a file cannot be read; the message names it.
   * @throws ERR_FORMAT if a file is malformed or of an unknown kind; the message names it.
   */
  static async fromFolder(folder: string): Promise<HuggingFaceTokenizer> {
    const file = path.join(folder, "tokenizer.json");
    const json = await readJsonFile(file, { asMap: "vocab" });
    const config = (await ifThere(path.join(folder, "tokenizer_config.json"), (name) => readJsonFile(name))) ?? {};
    const chatTemplate = await ifThere(path.join(folder, "chat_template.jinja"), readTextFile);
    const parts = { config: config as Record<string, unknown>, chatTemplate };
    return inFile(file, () => HuggingFaceTokenizer.load(json, parts));
  }

  /**
   * Returns the ids of a text. The call blocks the thread; `encodeAsync` does not.
   *
   * @example
   * const published = tokenizer.toHuggingFace();
   * published.encode("Hello", { maxLength: 3 }); // Int32Array [72, 101, 108]
   *
   * @throws ERR_RANGE if `maxLength` leaves no room for the special tokens, or if the vocabulary lacks part of the text
   * and has no unknown token.
   */
  encode(text: string, options: HuggingFaceEncodeOptions = {}): Int32Array {
    return joinParts(this.#parts(text, options));
  }

  /**
   * Resolves to the same ids as `encode`. The work is done in short slices, so that the event loop keeps running.
   *
   * @throws ERR_RANGE as `encode` does.
   */
  async encodeAsync(text: string, options: HuggingFaceEncodeOptions = {}): Promise<Int32Array> {
    return joinPartsInTurns(this.#parts(text, options));
  }

  /**
   * Returns the ids of a pair of texts and their types, for models that compare two texts, such as a question and a
   * passage. If they have more than `maxLength` ids, special tokens included, the ends of the texts are cut off, first
   * that of the longer one. The call blocks the thread; `encodePairAsync` does not.
   *
   * @example
   * const published = tokenizer.toHuggingFace();
   * published.encodePair("Hi", "you"); // { ids: [72, 105, 121, 111, 117], tokenTypes: [0, 0, 1, 1, 1] }
   *
   * @throws ERR_ARGUMENT if the tokenizer does not say how pairs are encoded.
   * @throws ERR_RANGE as `encode` does.
   */
  encodePair(a: string, b: string, options: HuggingFaceEncodeOptions = {}): EncodedPair {
    const { template, most } = this.#pairTemplate(options);
    const first = joinParts(this.#textParts(a, options));
    const second = joinParts(firstIds(this.#textParts(b, options), mostOfSecond(first, most)));
    return joinPair(template, [first, second], most);
  }

  /**
   * Resolves to the same ids and types as `encodePair`. The work is done in short slices, so that the event loop keeps
   * running.
   *
   * @throws ERR_ARGUMENT or ERR_RANGE as `encodePair` does.
   */
  async encodePairAsync(a: string, b: string, options: HuggingFaceEncodeOptions = {}): Promise<EncodedPair> {
    const { template, most } = this.#pairTemplate(options);
    const first = await joinPartsInTurns(this.#textParts(a, options));
    const second = await joinPartsInTurns(firstIds(this.#textParts(b, options), mostOfSecond(first, most)));
    return joinPair(template, [first, second], most);
  }

  /**
   * Returns the ids of a conversation, which the model's chat template turns into text. The names of control tokens in
   * messages that are not the assistant's, in tools and in documents are encoded as ordinary text, unless
   * `rawControlTokens` is true.
   *
   * @example
   * const source = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";
   * const { tokenizer: json } = tokenizer.toHuggingFace().toJSON();
   * const published = new HuggingFaceTokenizer(json, { chatTemplate: source });
   * const ids = published.encodeChat([{ role: "user", content: "Hello" }]);
   * published.decode(ids); // "user: Hello\n"
   *
   * @throws ERR_ARGUMENT if the tokenizer has no chat template, or the template rejects the messages.
   * @throws ERR_RANGE if the template exceeds the work or the length of text that it is allowed for these messages.
   */
  encodeChat(messages: readonly ChatMessage[], options: ChatOptions = {}): Int32Array {
    return joinParts(this.#chatParts(this.#template.renderText(messages, options), Infinity));
  }

  /**
   * Resolves to the same ids as `encodeChat`, at most `maxLength` of them. A long conversation is rendered by another
   * thread, and its text is encoded in short slices, so that the event loop keeps running. Conversations whose `signal`
   * is aborted are not rendered any more.
   *
   * @throws ERR_ARGUMENT or ERR_RANGE as `encodeChat` does.
   * @throws the signal's reason if it is aborted.
   */
  async encodeChatAsync(
    messages: readonly ChatMessage[],
    options: ChatOptions &
      Pick<HuggingFaceEncodeOptions, "maxLength"> & {
        signal?: AbortSignal | undefined;
        /** @internal True if the text ends with the content of the last message, so that the model continues it. */
        continues?: boolean;
      } = {},
  ): Promise<Int32Array> {
    const { maxLength, signal, continues = false, ...others } = options;
    if (!continues)
      return this.encodeRenderedAsync(await renderChat(this.#template, messages, others, signal), maxLength);
    const own = { ...others, addGenerationPrompt: false };
    const rendered = await renderChat(this.#template, withMark(messages), own, signal);
    return this.encodeRenderedAsync(upToMark(rendered), maxLength);
  }

  /** @internal Resolves to the ids of a conversation's text, at most `maxLength` of them. */
  async encodeRenderedAsync(rendered: RenderedText, maxLength = Infinity): Promise<Int32Array> {
    return joinPartsInTurns(this.#chatParts(rendered, maxLength));
  }

  /** Yields the ids of a conversation's text, in which only trusted parts name special tokens. */
  #chatParts({ text, untrusted }: RenderedText, maxLength: number): IdParts {
    if (maxLength !== Infinity) checkInteger("encode", "maxLength", maxLength, 0);
    return firstIds(encodeSteps(text.toWellFormed(), this.#prepared, true, untrusted), maxLength);
  }

  get #template(): ChatTemplate {
    if (this.chatTemplate) return this.chatTemplate;
    throw new HeedError("ERR_ARGUMENT", "encodeChat: expected a tokenizer with a chat template, got one without");
  }

  /**
   * Returns the text of these ids. Bytes that are not UTF-8 become U+FFFD.
   *
   * @throws ERR_RANGE if an id is not in the vocabulary.
   */
  decode(ids: Iterable<number>, options: HuggingFaceDecodeOptions = {}): string {
    return decodeAll(this.stream(options), ids);
  }

  /** Returns a stream that decodes ids one by one, for example while a text is generated. */
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

  /** Returns the bytes that a token adds to a text that it does not begin; none for a special token, unless `special` is true. */
  bytesOf(id: number, { special = false }: HuggingFaceDecodeOptions = {}): Uint8Array {
    checkId(this, id);
    const { tokens, special: hidden } = this.#prepared.definition;
    const token = tokens[id];
    return token === undefined || (!special && hidden.has(id))
      ? new Uint8Array(0)
      : this.#prepared.decoding.bytesOf(token, false);
  }

  /** @internal Returns the id of a token that has its name in texts, such as "<think>"; null if there is none. */
  tokenId(name: string): number | null {
    return this.#prepared.definition.idOf(name) ?? null;
  }

  /** @internal Returns true if a token is special: texts do not show it. */
  isSpecial(id: number): boolean {
    return this.#prepared.definition.special.has(id);
  }

  /** Returns an object from which `tokenizerFromJSON` creates the tokenizer again. */
  toJSON(): HuggingFaceJson {
    const { tokenizer, ...parts } = this.toFile();
    const { model } = tokenizer as { model: { vocab: unknown } };
    if (!(model.vocab instanceof Map)) return { ...parts, tokenizer };
    const vocab = Object.fromEntries(model.vocab as ReadonlyMap<string, number>);
    return { ...parts, tokenizer: { ...(tokenizer as object), model: { ...model, vocab } } };
  }

  /**
   * @internal Returns the same as `toJSON`, but the vocabulary may be a Map: converting a large one to an object takes
   * a while.
   */
  toFile(): HuggingFaceJson {
    return {
      type: "huggingface",
      tokenizer: this.#json,
      config: this.#config,
      chatTemplate: this.chatTemplate?.source ?? null,
    };
  }

  /** Returns the ids to put before and after a text, and the maximum number of ids of the text itself. */
  #around({ addSpecialTokens = true, maxLength = Infinity }: HuggingFaceEncodeOptions) {
    const [before, after] = addSpecialTokens ? [this.before, this.after] : [[], []];
    const around = before.length + after.length;
    if (maxLength !== Infinity) checkInteger("encode", "maxLength", maxLength, around);
    return { before, after, most: maxLength - around };
  }

  /** Returns the template of a pair, and the maximum number of ids of its texts together. */
  #pairTemplate({ addSpecialTokens = true, maxLength = Infinity }: HuggingFaceEncodeOptions) {
    const { pair } = this.#templates;
    if (!pair)
      throw new HeedError(
        "ERR_ARGUMENT",
        "encodePair: expected a tokenizer that says how pairs of texts are encoded (post_processor.pair), got one that does not",
      );
    const template = addSpecialTokens ? pair : pair.filter((piece) => "text" in piece);
    const added = template.length - 2;
    if (maxLength !== Infinity) checkInteger("encodePair", "maxLength", maxLength, added);
    return { template, most: maxLength - added };
  }

  *#parts(text: string, options: HuggingFaceEncodeOptions): IdParts {
    const { before, after, most } = this.#around(options);
    yield before;
    yield* firstIds(this.#textParts(text, options), most);
    yield after;
  }

  /** Yields the ids of a text without those that are put around it. */
  #textParts(text: string, { special = false }: HuggingFaceEncodeOptions): IdParts {
    return encodeSteps(text.toWellFormed(), this.#prepared, special);
  }

  /**
   * Returns the post-processor's templates. If it adds no tokens, the configuration may ask for those that begin and
   * end a text (`add_bos_token`, `add_eos_token`).
   */
  #readTemplates(): Templates<number> {
    const { single, pair } = this.#prepared.definition.templates;
    const withIds = (pieces: Templates["single"]): Piece<number>[] =>
      pieces.map((piece) => ("token" in piece ? { ...piece, token: this.#idOfName(piece.token) } : piece));
    const { add_bos_token: begins, add_eos_token: ends } = this.#config;
    const added = (wanted: unknown, token: number | null, type: number): Piece<number>[] =>
      wanted === true && token !== null ? [{ token, type }] : [];
    const around = (text: 0 | 1): Piece<number>[] => [
      ...added(begins, this.beginningOfText, text),
      { text, type: text },
      ...added(ends, this.endOfText, text),
    ];
    if (single.length > 1 || around(0).length === 1) return { single: withIds(single), pair: pair && withIds(pair) };
    return { single: around(0), pair: [...around(0), ...around(1)] };
  }

  #idOfName(token: string): number {
    const id = this.#prepared.definition.idOf(token);
    if (id !== undefined) return id;
    throw new HeedError(
      "ERR_FORMAT",
      `tokenizer.json: expected the post-processor to add tokens of the vocabulary, got ${JSON.stringify(token)}`,
    );
  }

  /** Returns the id of a special token that the configuration names, or null if it names none. */
  #specialId(name: string): number | null {
    const token = specialToken(this.#config[name]);
    return token === null ? null : (this.#prepared.definition.idOf(token) ?? null);
  }

  #readChatTemplate(source: string | null): ChatTemplate | null {
    const given = source ?? templateOf(this.#config.chat_template);
    if (given === null) return null;
    const named = Object.keys(this.#config).filter((name) => name.endsWith("_token"));
    const variables = Object.fromEntries(named.map((name) => [name, specialToken(this.#config[name])]));
    return new ChatTemplate(given, variables);
  }
}

/** Returns the ids before and after the text of a template. */
function affixesOf({ single }: Templates<number>): [number[], number[]] {
  const at = single.findIndex((piece) => "text" in piece);
  const ids = (pieces: Templates<number>["single"]): number[] =>
    pieces.flatMap((piece) => ("token" in piece ? [piece.token] : []));
  return [ids(single.slice(0, at)), ids(single.slice(at + 1))];
}

/**
 * Returns how many ids of a pair's second text are needed to cut the pair to `most` ids: with one more than the first
 * text has, it is known which text is longer. The rest of a long passage is not encoded.
 */
function mostOfSecond(first: Int32Array, most: number): number {
  return Math.max(most, first.length + 1);
}

/** Returns the text of a special token, which the configuration gives as a string or in an object with `content`. */
function specialToken(value: unknown): string | null {
  if (typeof value === "string") return value;
  const content = (value as { content?: unknown } | null)?.content;
  return typeof content === "string" ? content : null;
}

/** Returns the chat template of a configuration: a string, or the entry named "default" of a list. */
function templateOf(value: unknown): string | null {
  if (value === undefined || value === null) return null;
  if (typeof value === "string") return value;
  const list = Array.isArray(value) ? (value as { name?: unknown; template?: unknown }[]) : [];
  const template = list.find((entry) => entry?.name === "default")?.template;
  if (typeof template === "string") return template;
  throw new HeedError(
    "ERR_FORMAT",
    `chat template: expected a string or a list with a "default", got ${describe(value)}`,
  );
}

/** Text that marks where the content of a message ends in the text of a conversation. */
const endOfContent = "heed:the-end-of-the-content";

/** Returns the messages with a mark at the end of the last one. */
function withMark(messages: readonly ChatMessage[]): ChatMessage[] {
  const last = messages.at(-1);
  if (typeof last?.content !== "string" || last.content.trim() === "")
    throw new HeedError(
      "ERR_ARGUMENT",
      `encodeChat: expected a last message with a text that can be continued, got ${describe(last?.content)}`,
    );
  return [...messages.slice(0, -1), { ...last, content: last.content + endOfContent }];
}

/** Returns the beginning of a conversation's text up to the mark. */
function upToMark({ text, untrusted }: RenderedText): RenderedText {
  const at = text.lastIndexOf(endOfContent);
  if (at >= 0) return { text: text.slice(0, at), untrusted: rangesWithin(untrusted, 0, at) };
  throw new HeedError(
    "ERR_ARGUMENT",
    "encodeChat: expected a last message that can be continued, got one that the chat template does not write",
  );
}
