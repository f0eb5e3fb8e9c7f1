import { setMaxListeners } from "node:events";
import { HeedError } from "../util/errors.js";
import { describe } from "../ops/check.js";
import type { AnswerParts } from "../structured/answer.js";
import type { AnswerRules, FindRules } from "../structured/answer-rules.js";
import { Grammar } from "../structured/compile.js";
import { readFormat, type UsedFormat } from "../structured/format-cache.js";
import { checkFormat } from "../structured/format-expression.js";
import type { OutputFormat } from "../structured/output-format.js";
import { ThinkingBudget } from "../structured/thinking-budget.js";
import { encodeText, type Tokenizer } from "../tokenizer/tokenizer.js";
import { warnOnce } from "../util/warn-once.js";
import { byteStream, type TokenStream } from "../tokenizer/token-stream.js";
import type { CausalModel } from "./causal-model.js";
import { decode } from "./decode.js";
import { divergence } from "./diverged.js";
import { Generation, type GenerationEnd, type GenerationEvent, type TokenLogprobs } from "./generation.js";
import { checkModel, checkTextOptions, checkTokenOptions, type TextOptions, type TokenSettings } from "./options.js";
import { type Sequence, sequencesOf } from "./sequence.js";
import { merge } from "./merge.js";
import { StopFilter } from "./stop-filter.js";
import { StopTexts } from "./stop-texts.js";

/** @internal A token of a sequence, with its log-probabilities if they were asked for. */
export interface DrawnToken {
  readonly token: number;
  readonly logprobs: TokenLogprobs | null;
}

/**
 * @internal Yields the tokens of a sequence as they come, and ends when the sequence has ended: it then has set `finish`
 * or `diverged`, unless the caller has set `finish`.
 */
export type TokenSource = (sequence: Sequence, settings: TokenSettings) => AsyncIterable<DrawnToken>;

/** @internal Source of the tokens of one or more texts. */
export interface TextSource {
  readonly tokens: TokenSource;
  /** Number of texts. */
  readonly n: number;
  /** True if the tokens have log-probabilities. */
  readonly logprobs: boolean;
  /** Largest number of tokens of a sequence. @default the context of the model */
  readonly contextLength?: number;
  /** Function that is called if no token is asked for, because the prompt or the form of the text is invalid. */
  readonly ended?: () => void;
  /** Returns what the answers to a prompt consist of; null if they are plain texts. */
  readonly answers?: FindRules | null;
}

interface TextSettings extends TokenSettings {
  stop: StopTexts;
  /** True if the text begins with the decoded prompt; a string is shown instead of it. */
  echo: boolean | string;
  /** Form of a text that is no answer to a conversation. */
  format: OutputFormat | null;
}

/** Settings of texts whose rules have been found. */
interface RuledSettings extends TextSettings {
  rules: AnswerRules;
  /** Format that is released when the text has ended; null if there is none, or other texts follow it too. */
  own: UsedFormat | null;
}

const cutThought =
  "an answer was cut while the model was thinking, so that it has no text: allow more tokens, give the model a longer context, or turn its thinking off with a variable of its chat template";

const plain: AnswerRules = { allowed: null, shown: new Set(), parser: null, reasoning: null };

/**
 * Continues a prompt, which is a text or tokens (for example of a chat). By default the text ends with the tokenizer's
 * end-of-text token; the option `stopTokens` replaces it. An empty prompt stands for the beginning of a new text: the
 * model continues from the end-of-text token. Without a tokenizer (null), the prompt must be tokens, and the result has
 * only tokens.
 *
 * Await the result for the whole text, or iterate over it for its parts as they come. The prompt is read only then.
 *
 * @example
 * const { text } = await generate(gpt, tokenizer, "Call me", { maxTokens: 20 });
 *
 * @throws ERR_ARGUMENT or ERR_RANGE at the call if an argument is invalid, and when the text is read if the prompt is
 * invalid, or the format is one that cannot be followed.
 * @throws the signal's reason, when the text is read, if the signal aborts.
 * @throws ERR_DIVERGED, when the text is read, if the model diverges: the logits of a token contain NaN or Infinity, or
 * all of them are -Infinity. The events before that token come first.
 */
export function generate(
  model: CausalModel,
  tokenizer: Tokenizer | null,
  prompt: string | Int32Array,
  options: TextOptions = {},
): Generation {
  if (typeof prompt !== "string" && !(prompt instanceof Int32Array))
    throw new HeedError(
      "ERR_ARGUMENT",
      `generate: expected prompt to be a string or its tokens in an Int32Array, got ${describe(prompt)}`,
    );
  if (tokenizer === null && typeof prompt === "string")
    throw new HeedError(
      "ERR_ARGUMENT",
      "generate: expected a tokenizer, or the prompt's tokens in an Int32Array, got a string and no tokenizer",
    );
  if (typeof prompt === "string")
    return generateFrom(model, tokenizer, () => encodePrompt(tokenizer!, prompt), options, prompt);
  const tokens = prompt.slice();
  return generateFrom(model, tokenizer, () => tokens, options);
}

/**
 * @internal Does the same as `generate`, with tokens that are made when the text is first read. With the option `echo`,
 * the result begins with `echoed`, or with the decoded tokens if it is null.
 */
export function generateFrom(
  model: CausalModel,
  tokenizer: Tokenizer | null,
  prompt: () => Int32Array | Promise<Int32Array>,
  options: TextOptions,
  echoed: string | null = null,
  source: TextSource = aloneSource(model),
): Generation {
  checkModel("generate", model);
  if (tokenizer !== null) checkTokenizer(model, tokenizer);
  const { stop, echo } = checkTextOptions("generate", options);
  if (tokenizer === null && stop.length > 0)
    throw new HeedError("ERR_ARGUMENT", "generate: expected a tokenizer for the option stop, got none");
  const end = tokenizer?.endOfText ?? null;
  const { stopTokens = end === null ? [] : [end] } = options;
  const settings = checkTokenOptions("generate", model, { ...options, stopTokens });
  const { format = null } = options;
  if (tokenizer === null && format !== null)
    throw new HeedError("ERR_ARGUMENT", "generate: expected a tokenizer for the option format, got none");
  if (format !== null) checkFormat(format);
  const text = { ...settings, stop: StopTexts.of(stop), echo: echo && (echoed ?? true), format };
  const { n, logprobs } = source;
  return new Generation((end) => eventsOf(model, tokenizer, prompt, text, source, end), n, logprobs);
}

/** @internal Returns the source of a text that is decoded alone; `answers` are those of `TextSource`. */
export function aloneSource(model: CausalModel, answers: TextSource["answers"] = null): TextSource {
  return { tokens: (...args) => decodedTokens(model, ...args), n: 1, logprobs: false, answers };
}

function checkTokenizer(model: CausalModel, tokenizer: Tokenizer): void {
  if (typeof tokenizer !== "object" || typeof tokenizer.stream !== "function")
    throw new HeedError("ERR_ARGUMENT", `generate: expected a tokenizer, got ${describe(tokenizer)}`);
  const [own, models] = [tokenizer.vocabularySize, model.config.vocabularySize];
  if (own > models)
    throw new HeedError(
      "ERR_ARGUMENT",
      `generate: expected a tokenizer with at most ${models} ids, as many as the model has, got ${own}`,
    );
}

/** @internal Resolves to the tokens of a prompt, or the first of them; an empty one is the end-of-text token. */
export async function encodePrompt(tokenizer: Tokenizer, prompt: string, maxLength?: number): Promise<Int32Array> {
  const ids = await encodeText(tokenizer, prompt, maxLength);
  if (ids.length > 0) return ids;
  if (tokenizer.endOfText !== null) return Int32Array.of(tokenizer.endOfText);
  throw new HeedError(
    "ERR_ARGUMENT",
    "generate: expected a prompt that is not empty: the tokenizer has no end-of-text token to begin a text with",
  );
}

/** Reads the prompt, and returns the events of all texts. */
async function eventsOf(
  ...[model, tokenizer, promptTokens, settings, source, end]: Parameters<typeof begunEvents>
): ReturnType<typeof begunEvents> {
  try {
    return await begunEvents(model, tokenizer, promptTokens, settings, source, end);
  } catch (error) {
    source.ended?.();
    throw error;
  }
}

async function begunEvents(
  model: CausalModel,
  tokenizer: Tokenizer | null,
  promptTokens: () => Int32Array | Promise<Int32Array>,
  settings: TextSettings,
  { tokens, n, answers, contextLength }: TextSource,
  end: GenerationEnd,
): Promise<AsyncGenerator<GenerationEvent, void, undefined>> {
  settings.signal?.throwIfAborted();
  const prompt = await promptTokens();
  const prompts = Array<Int32Array>(n).fill(prompt);
  const { maxTokens, slide } = settings;
  const sequences = sequencesOf("generate", model, prompts, { maxTokens, slide, contextLength }, () => "prompt");
  end.promptTokens = prompt.length;
  const { format, signal } = settings;
  const rules = answers
    ? await answers(prompt, signal)
    : { ...plain, allowed: format && (await readFormat(format, signal)) };
  const { allowed, shown, reasoning } = rules;
  if (allowed !== null)
    try {
      const grammar = await Grammar.for(tokenizer!, model.config.vocabularySize, allowed.root, shown);
      for (const sequence of sequences) sequence.constraint = await grammar.start();
    } catch (error) {
      allowed[Symbol.dispose]();
      throw error;
    }
  // Where the end of the reasoning is a stop token, it ends the answer, and cannot be chosen for the model.
  if (reasoning?.end.some((id) => settings.stopTokens.has(id)) === false)
    for (const sequence of sequences) {
      const stream = exactStream(tokenizer!, shown);
      const textOf = (token: number): string => textOfToken(tokenizer, stream, token);
      sequence.constraint = new ThinkingBudget(sequence.constraint, reasoning, textOf, model.config.vocabularySize);
    }
  const events = (given: TextSettings): AsyncGenerator<GenerationEvent, void, undefined>[] =>
    sequences.map((sequence) => {
      const own = n === 1 ? allowed : null;
      const text = textOf(sequence, prompt, tokenizer, { ...given, rules, own }, tokens, end);
      return n === 1 ? text : withEnd(text, sequence.index, end);
    });
  // A further generator around the events would cost each token some microtasks.
  return n === 1 ? events(settings)[0]! : together(events, settings, allowed);
}

/** Yields the events of one of several texts, and the reason why it ended. */
async function* withEnd(
  events: AsyncGenerator<GenerationEvent, void, undefined>,
  choice: number,
  { finishReasons }: GenerationEnd,
): AsyncGenerator<GenerationEvent, void, undefined> {
  yield* events;
  yield { choice, text: "", tokens: [], finishReason: finishReasons[choice]! };
}

/** Yields the events of several texts as they come. */
async function* together(
  events: (given: TextSettings) => AsyncGenerator<GenerationEvent, void, undefined>[],
  settings: TextSettings,
  allowed: UsedFormat | null,
): AsyncGenerator<GenerationEvent, void, undefined> {
  using _allowed = allowed;
  // A generator that waits for a token cannot be ended otherwise.
  const left = new AbortController();
  const signal = AbortSignal.any([left.signal, ...(settings.signal ? [settings.signal] : [])]);
  // Each text listens to it.
  setMaxListeners(0, signal);
  try {
    yield* merge(events({ ...settings, signal }));
  } finally {
    left.abort();
  }
}

/** Yields the events of one text. */
async function* textOf(
  sequence: Sequence,
  prompt: Int32Array,
  tokenizer: Tokenizer | null,
  settings: RuledSettings,
  source: TokenSource,
  end: GenerationEnd,
): AsyncGenerator<GenerationEvent, void, undefined> {
  using _own = settings.own;
  const choice = sequence.index;
  const { allowed, parser: parts } = settings.rules;
  // The text of a token may depend on whether it begins the text, and the prompt comes first. If the prompt ends
  // within a character, the character appears with the token that completes it.
  const { stream: started, shown } = streamAfter(tokenizer, prompt, settings.echo === true);
  const echoed = settings.echo === true ? shown : settings.echo;
  if (echoed) yield { choice, text: echoed, tokens: [] };
  const decoder = tokenizer && (allowed || parts) ? exactStream(tokenizer, settings.rules.shown) : started;
  const filter = new StopFilter(settings.stop);
  const parser = parts?.();
  const read = (text: string): AnswerParts => parser?.push(text) ?? { text };
  let event: GenerationEvent = { choice, text: "", tokens: [] };
  let count = 0;
  for await (const { token, logprobs } of source(sequence, settings)) {
    count++;
    event.tokens.push(token);
    if (logprobs) (event.logprobs ??= []).push(logprobs);
    Object.assign(event, read(filter.push(textOfToken(tokenizer, decoder, token))));
    if (filter.stopped || parser?.ended) sequence.finish = "stop";
    if (tokenizer && !hasParts(event)) continue;
    yield event;
    event = { choice, text: "", tokens: [] };
  }
  if (choice === 0) end.cachedTokens = sequence.cached;
  if (sequence.diverged) throw divergence("generate", `token ${count + 1} after the prompt`);
  const rest = filter.push(decoder?.end() ?? "");
  const reason = filter.stopped ? "stop" : sequence.finish!;
  // Only an answer that ends with a token of its own has been written to its end.
  const isCut = reason !== "stop" || filter.stopped;
  if (reason === "length" && parser?.reasons) warnOnce("HEED_THINKING", cutThought);
  end.finishReasons[choice] = reason === "stop" && parser?.hasCalls ? "tool-calls" : reason;
  for (const parts of [read(rest + filter.end()), ...(parser ? [parser.end(isCut)] : [])]) {
    Object.assign(event, parts);
    if (hasParts(event) || event.tokens.length > 0) yield event;
    event = { choice, text: "", tokens: [] };
  }
}

/** Number of a prompt's last tokens of which at least some have a text, as a rule. */
const usualTail = 64;

/**
 * Returns a stream that has decoded a prompt, and the text of it: all of it, or only its end. What a stream keeps follows
 * from the end: the beginning of a character, and that there has been some text.
 */
function streamAfter(
  tokenizer: Tokenizer | null,
  prompt: Int32Array,
  whole: boolean,
): { stream: TokenStream | undefined; shown: string } {
  if (!tokenizer) return { stream: undefined, shown: "" };
  for (let count = whole ? prompt.length : usualTail; ; count *= 2) {
    const stream = tokenizer.stream();
    const shown = Array.from(prompt.subarray(-count), (id) => textOfToken(tokenizer, stream, id)).join("");
    if (shown !== "" || count >= prompt.length) return { stream, shown };
  }
}

/**
 * Returns the text that a token adds. Models often have more embeddings than the tokenizer has tokens, to make their number
 * round. Such an id has no text.
 */
function textOfToken(tokenizer: Tokenizer | null, stream: TokenStream | undefined, id: number): string {
  return stream && id < tokenizer!.vocabularySize ? stream.push(id) : "";
}

function hasParts({ text, reasoning, toolCalls }: AnswerParts): boolean {
  return text !== "" || reasoning !== undefined || toolCalls !== undefined;
}

/**
 * Returns a stream that decodes each token as a format sees it, wherever it stands. Special tokens have no text, but for
 * those of `shown`.
 */
function exactStream(tokenizer: Tokenizer, shown: ReadonlySet<number>): TokenStream {
  if (!tokenizer.bytesOf) return tokenizer.stream();
  return byteStream((id) => tokenizer.bytesOf!(id, { special: shown.has(id) }));
}

/** Yields the tokens of a sequence that is decoded alone. */
async function* decodedTokens(
  model: CausalModel,
  sequence: Sequence,
  settings: TokenSettings,
): AsyncGenerator<DrawnToken> {
  if (sequence.constraint?.ended) {
    sequence.finish = "stop";
    return;
  }
  for await (const [advanced] of decode(model, [sequence], settings))
    yield { token: advanced!.tokens.at(-1)!, logprobs: null };
}
