// The class that `load` returns for causal models: `generate` with the model's own tokenizer, defaults and chat
// template.
import { checkObject } from "../util/check.js";
import { Engine } from "../engine/engine.js";
import type { EngineOptions } from "../engine/engine-options.js";
import type { ConversationOptions, RequestOptions } from "../engine/engine-request.js";
import { describe, HeedError } from "../util/errors.js";
import type { Generation } from "../generate/generation.js";
import type { TextOptions } from "../generate/options.js";
import type { HooksOf } from "../inspect/run.js";
import type { CausalDecoder } from "../models/causal-decoder.js";
import type { GenerationDefaults } from "../pretrained/generation-config.js";
import type { ChatMessage } from "../tokenizer/chat-template.js";
import { HuggingFaceTokenizer } from "../tokenizer/huggingface-tokenizer.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { chatWithHooks, generateWithHooks } from "./hooked-generation.js";
import { definedOptions, Loaded, needed, ofOtherKind } from "./loaded.js";

/** Parts of a `LanguageModel`. */
export interface LanguageModelParts {
  /** The model. The `LanguageModel` owns it and disposes it. */
  model: CausalDecoder;
  /** Tokenizer of the model. Without one (null), prompts must be tokens. */
  tokenizer: Tokenizer | null;
  /** Generation options that suit the model, such as its stop tokens. @default {} */
  defaults?: GenerationDefaults;
  /** Options of the engine that computes the texts, such as its memory. @default {} */
  engine?: OwnEngineOptions | undefined;
}

/** Options of the engine of a `LanguageModel`, which has the model's tokenizer and defaults; see `EngineOptions`. */
export type OwnEngineOptions = Omit<EngineOptions, "tokenizer" | "defaults">;

/** Hooks of `LanguageModel.generate` and `LanguageModel.chat`. */
export interface HookOptions {
  /**
   * Hooks that read or replace values of the model while it generates, by the names that `hookNames` of heed/inspect lists.
   * The text is then generated alone, outside of the batch that calls share, and without recorded steps. The options of
   * `RequestOptions` cannot be combined with hooks.
   *
   * @default {}
   */
  hooks?: HooksOf<CausalDecoder> | undefined;
}

/** Options of `LanguageModel.generate`. */
export interface GenerationOptions extends TextOptions, RequestOptions, HookOptions {}

/** Options of `LanguageModel.chat`. */
export interface ChatGenerationOptions extends TextOptions, RequestOptions, ConversationOptions, HookOptions {}

/**
 * A model that continues texts, with its tokenizer.
 *
 * @example
 * // This downloads a model.
 * using model = await load("Qwen/Qwen3-0.6B", { kind: "causal" });
 * const { text } = await model.generate("The whale", { maxTokens: 50 });
 */
export class LanguageModel extends Loaded<CausalDecoder> {
  /** Kind of the model. */
  readonly kind = "causal";
  /** Generation options that came with the model: the tokens that end a text, and how to sample. */
  readonly defaults: GenerationDefaults;
  readonly #tokenizer: Tokenizer | null;
  readonly #engineOptions: OwnEngineOptions;
  /** Serves all calls together; it is made by the first one. */
  #engine: Engine | null = null;

  /**
   * Combines a model with its tokenizer. `load` does this for published and saved models; use the constructor for a
   * model that was trained in the same program.
   *
   * @example
   * const model = new LanguageModel({ model: gpt, tokenizer });
   * const { text } = await model.generate("The whale", { maxTokens: 5 });
   */
  constructor({ model, tokenizer, defaults = {}, engine = {} }: LanguageModelParts) {
    super(model);
    this.defaults = defaults;
    this.#engineOptions = engine;
    this.#tokenizer = tokenizer;
  }

  /**
   * Tokenizer of the model.
   *
   * @throws ERR_ARGUMENT if the model has no tokenizer and `load` was given none.
   */
  get tokenizer(): Tokenizer {
    return needed(this.#tokenizer);
  }

  /**
   * Continues a prompt, which is a text or its tokens. Options that are not given come from `defaults`. Await the
   * result, or iterate over its events. Calls at the same time are computed together, as one batch.
   *
   * @example
   * const { text } = await model.generate("Once upon a time", { maxTokens: 50 });
   * for await (const { text } of model.generate("Once upon a time")) process.stdout.write(text);
   *
   * @throws ERR_ARGUMENT or ERR_RANGE if an argument is invalid. For errors of the result, see `generate`.
   */
  generate(prompt: string | Int32Array, options: GenerationOptions = {}): Generation {
    checkObject("generate", "options", options);
    if (typeof prompt === "string") needed(this.#tokenizer);
    else if (!(prompt instanceof Int32Array))
      throw new HeedError(
        "ERR_ARGUMENT",
        `generate: expected prompt to be a string or its tokens in an Int32Array, got ${describe(prompt)}`,
      );
    const { hooks, ...rest } = options;
    const chosen = { ...this.defaults, ...definedOptions(rest) };
    if (hooks) return generateWithHooks(this.model, this.#tokenizer, prompt, hooks, chosen);
    const given = typeof prompt === "string" ? { prompt } : { tokens: prompt };
    return this.#serving.generate({ ...chosen, ...given });
  }

  /**
   * Answers a conversation, which is formatted by the model's chat template. Options that are not given come from
   * `defaults`. Await the result, or iterate over its events. Calls at the same time are computed together, as one
   * batch, and a further turn of a conversation computes only what has been added.
   *
   * @example
   * const { text } = await model.chat([{ role: "user", content: "Why is the sky blue?" }]);
   *
   * @throws ERR_ARGUMENT if the model has no chat template. Other errors are those of `generate`. If the messages are
   * invalid, the result rejects.
   */
  chat(messages: readonly ChatMessage[], options: ChatGenerationOptions = {}): Generation {
    checkObject("chat", "options", options);
    const tokenizer = needed(this.#tokenizer);
    if (!(tokenizer instanceof HuggingFaceTokenizer) || !tokenizer.chatTemplate)
      throw new HeedError("ERR_ARGUMENT", "chat: expected a model with a chat template, got one without");
    const { hooks, ...rest } = options;
    const chosen = { ...this.defaults, ...definedOptions(rest) };
    if (hooks) return chatWithHooks(this.model, tokenizer, messages, hooks, chosen);
    return this.#serving.generate({ ...chosen, messages });
  }

  /** Frees the memory of the model. Texts that are being generated reject (ERR_DISPOSED). */
  override dispose(): void {
    this.#engine?.dispose();
    super.dispose();
  }

  get #serving(): Engine {
    return (this.#engine ??= new Engine(this.model, { ...this.#engineOptions, tokenizer: this.#tokenizer }));
  }

  /**
   * Unavailable: this model does not turn texts into vectors.
   *
   * @throws ERR_ARGUMENT always.
   */
  get embed(): never {
    return ofOtherKind("embed", "encoder", this.kind);
  }

  /**
   * Unavailable: this model does not translate texts.
   *
   * @throws ERR_ARGUMENT always.
   */
  get translate(): never {
    return ofOtherKind("translate", "encoder-decoder", this.kind);
  }

  /**
   * Unavailable: this model does not classify texts.
   *
   * @throws ERR_ARGUMENT always.
   */
  get classify(): never {
    return ofOtherKind("classify", "classifier", this.kind);
  }

  /**
   * Unavailable: this model does not rank documents.
   *
   * @throws ERR_ARGUMENT always.
   */
  get rank(): never {
    return ofOtherKind("rank", "classifier", this.kind);
  }
}
