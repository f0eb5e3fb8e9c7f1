import { checkObject } from "../check.js";
import { HeedError } from "../errors.js";
import { generate, generateFrom } from "../generate/generate-text.js";
import type { Generation } from "../generate/generation.js";
import type { TextOptions } from "../generate/options.js";
import type { GPT } from "../models/gpt.js";
import type { Llama } from "../models/llama.js";
import type { GenerationDefaults } from "../pretrained/generation-config.js";
import type { ChatMessage, ChatOptions } from "../tokenizer/chat-template.js";
import { HuggingFaceTokenizer } from "../tokenizer/huggingface-tokenizer.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { definedOptions, Loaded, needed, ofOtherKind } from "./loaded.js";

export interface LanguageModelParts {
  model: GPT | Llama;
  /** Needed for texts; token prompts work without one. */
  tokenizer: Tokenizer | null;
  /** Options of generation that suit the model, such as its stop tokens. @default {} */
  defaults?: GenerationDefaults;
}

export interface ChatGenerationOptions extends TextOptions, Pick<ChatOptions, "tools" | "variables"> {}

/** A model that continues texts, with its tokenizer. */
export class LanguageModel extends Loaded<GPT | Llama> {
  readonly kind = "causal";
  /** Options of generation that the model came with: the tokens that end a text, and how to sample. */
  readonly defaults: GenerationDefaults;
  readonly #tokenizer: Tokenizer | null;

  /** `load` makes these; a model that was trained in the program can be put into one, too. */
  constructor({ model, tokenizer, defaults = {} }: LanguageModelParts) {
    super(model);
    this.defaults = defaults;
    this.#tokenizer = tokenizer;
  }

  /** @throws ERR_ARGUMENT where the source has no tokenizer and none was given. */
  get tokenizer(): Tokenizer {
    return needed(this.#tokenizer);
  }

  /**
   * Continues a prompt, which is a text or its tokens, with the model's `defaults` for all that `options` does not say.
   * Await the result, or iterate over its events.
   *
   * @example
   * const { text } = await model.generate("Once upon a time", { maxTokens: 50 });
   * for await (const { text } of model.generate("Once upon a time")) process.stdout.write(text);
   *
   * @throws ERR_ARGUMENT or ERR_RANGE for a bad argument; see `generate`.
   */
  generate(prompt: string | Int32Array, options: TextOptions = {}): Generation {
    checkObject("generate", "options", options);
    if (typeof prompt === "string") needed(this.#tokenizer);
    return generate(this.model, this.#tokenizer, prompt, { ...this.defaults, ...definedOptions(options) });
  }

  /**
   * Answers a conversation, by the chat template that the model came with.
   *
   * @example
   * const { text } = await model.chat([{ role: "user", content: "Why is the sky blue?" }]);
   *
   * @throws ERR_ARGUMENT where the model has no chat template; else as `generate`. What is wrong with the messages is found
   * when the answer is read, which then rejects.
   */
  chat(messages: readonly ChatMessage[], options: ChatGenerationOptions = {}): Generation {
    checkObject("chat", "options", options);
    const tokenizer = needed(this.#tokenizer);
    if (!(tokenizer instanceof HuggingFaceTokenizer) || !tokenizer.chatTemplate)
      throw new HeedError("ERR_ARGUMENT", "chat: expected a model with a chat template, got one without");
    const { tools = null, variables = {}, ...rest } = options;
    const tokens = (): Promise<Int32Array> => tokenizer.encodeChatAsync(messages, { tools, variables });
    return generateFrom(this.model, tokenizer, tokens, { ...this.defaults, ...definedOptions(rest) });
  }

  get embed(): never {
    return ofOtherKind("embed", "encoder", this.kind);
  }

  get translate(): never {
    return ofOtherKind("translate", "encoder-decoder", this.kind);
  }
}
