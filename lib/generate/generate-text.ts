import { HeedError } from "../errors.js";
import { describe } from "../ops/check.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import type { CausalModel } from "./causal-model.js";
import { decode } from "./decode.js";
import { divergence } from "./diverged.js";
import { checkModel, checkTextOptions, checkTokenOptions, type TextOptions, type TokenSettings } from "./options.js";
import { type FinishReason, generated, type Sequence, sequencesOf } from "./sequence.js";
import { StopFilter } from "./stop-filter.js";

interface TextSettings extends TokenSettings {
  stop: readonly string[];
  /** Whether the text begins with the prompt's; a prompt that was a text, as it was. */
  echo: boolean | string;
}

/**
 * A text being generated: iterate over it for the pieces as they come, or await `text()`. It begins with the first read
 * and is read once. Leaving the loop ends the generation and frees its memory.
 *
 * Pieces are never empty, and none ends within a character.
 */
export class TextGeneration implements AsyncIterable<string> {
  /** How many tokens the prompt has. */
  readonly promptTokens: number;
  readonly #sequence: Sequence;
  readonly #pieces: AsyncGenerator<string, void, undefined>;
  #begun = false;

  /** @internal Use `generate()`. */
  constructor(model: CausalModel, tokenizer: Tokenizer, prompt: Int32Array, settings: TextSettings) {
    [this.#sequence] = sequencesOf("generate", model, [prompt], settings) as [Sequence];
    this.promptTokens = prompt.length;
    this.#pieces = pieces(model, tokenizer, this.#sequence, prompt, settings);
  }

  /** The tokens generated so far. */
  get tokens(): number[] {
    return this.#sequence.tokens.slice(this.#sequence.prompt);
  }

  /** Why the text ended; null while it has not, and where it was broken off. */
  get finish(): FinishReason | null {
    return this.#sequence.finish;
  }

  [Symbol.asyncIterator](): AsyncGenerator<string, void, undefined> {
    if (this.#begun)
      throw new HeedError("ERR_ARGUMENT", "generate: expected its text to be read once, got a second read");
    this.#begun = true;
    return this.#pieces;
  }

  /** The whole text. */
  async text(): Promise<string> {
    let text = "";
    for await (const piece of this) text += piece;
    return text;
  }
}

/**
 * Continues a prompt.
 *
 * ```ts
 * for await (const piece of generate(model, tokenizer, "Call me", { maxTokens: 50 })) process.stdout.write(piece);
 * ```
 *
 * The prompt is a text or, as of a chat, tokens. The tokenizer's end of text ends it, unless other `stopTokens` are
 * given. An empty prompt stands for the beginning of a text: after an end of text.
 *
 * Throws ERR_ARGUMENT or ERR_RANGE for a bad argument. The text rejects with the signal's reason. Where the model diverges (the
 * logits of a next token have NaN or Infinity among them, or nothing but -Infinity), it rejects with ERR_DIVERGED after the
 * pieces that came before.
 */
export function generate(
  model: CausalModel,
  tokenizer: Tokenizer,
  prompt: string | Int32Array,
  options: TextOptions = {},
): TextGeneration {
  checkModel("generate", model);
  checkTokenizer(model, tokenizer);
  if (typeof prompt !== "string" && !(prompt instanceof Int32Array))
    throw new HeedError(
      "ERR_ARGUMENT",
      `generate: expected prompt to be a string or its tokens in an Int32Array, got ${describe(prompt)}`,
    );
  const { stop, echo } = checkTextOptions("generate", options);
  const { stopTokens = tokenizer.endOfText === null ? [] : [tokenizer.endOfText] } = options;
  const settings = checkTokenOptions("generate", model, { ...options, stopTokens });
  const tokens = typeof prompt === "string" ? encode(tokenizer, prompt) : prompt;
  const echoed = echo && typeof prompt === "string" ? prompt : echo;
  return new TextGeneration(model, tokenizer, tokens, { ...settings, stop, echo: echoed });
}

function checkTokenizer(model: CausalModel, tokenizer: Tokenizer): void {
  if (typeof tokenizer !== "object" || tokenizer === null || typeof tokenizer.stream !== "function")
    throw new HeedError("ERR_ARGUMENT", `generate: expected a tokenizer, got ${describe(tokenizer)}`);
  const [own, models] = [tokenizer.vocabularySize, model.config.vocabularySize];
  if (own > models)
    throw new HeedError(
      "ERR_ARGUMENT",
      `generate: expected a tokenizer of at most the model's ${models} ids, got ${own}`,
    );
}

function encode(tokenizer: Tokenizer, prompt: string): Int32Array {
  const ids = tokenizer.encode(prompt);
  if (ids.length > 0) return ids;
  if (tokenizer.endOfText !== null) return Int32Array.of(tokenizer.endOfText);
  throw new HeedError(
    "ERR_ARGUMENT",
    "generate: expected a prompt that is not empty, since the tokenizer has no end of text for a text to begin after",
  );
}

async function* pieces(
  model: CausalModel,
  tokenizer: Tokenizer,
  sequence: Sequence,
  prompt: Int32Array,
  settings: TextSettings,
): AsyncGenerator<string, void, undefined> {
  const decoder = tokenizer.stream();
  // Models often have more embeddings than there are tokens, a round number of them: such an id is no text.
  const textOf = (id: number): string => (id < tokenizer.vocabularySize ? decoder.push(id) : "");
  // What a token shows may depend on whether it begins the text: the prompt does. A character that the prompt leaves
  // unfinished comes with the token that completes it.
  const shown = Array.from(prompt, textOf).join("");
  const echoed = settings.echo === true ? shown : settings.echo;
  if (echoed) yield echoed;
  const filter = new StopFilter(settings.stop);
  for await (const [advanced] of decode(model, [sequence], settings)) {
    const text = filter.push(textOf(advanced!.tokens.at(-1)!));
    if (filter.stopped) sequence.finish = "stop";
    if (text) yield text;
  }
  if (sequence.diverged) throw divergence("generate", `token ${generated(sequence) + 1} after the prompt`);
  const rest = filter.push(decoder.end());
  if (filter.stopped) sequence.finish = "stop";
  const text = rest + filter.end();
  if (text) yield text;
}
