// The models of a server by the names that clients give, with an engine for each that generates.
import { Engine } from "../engine/engine.js";
import type { EngineMetrics, EngineOptions } from "../engine/engine-options.js";
import { checkObject } from "../util/check.js";
import type { FloatDType } from "../core/dtype.js";
import { describe, HeedError } from "../util/errors.js";
import { encodePrompt } from "../generate/generate-text.js";
import { ClassifierModel } from "../load/classifier-model.js";
import { EmbeddingModel } from "../load/embedding-model.js";
import { LanguageModel } from "../load/language-model.js";
import { describedToolsNote } from "../engine/prompt.js";
import { encodeConversation } from "../structured/conversation.js";
import type { ChatMessage, ChatOptions } from "../tokenizer/chat-template.js";
import { HuggingFaceTokenizer } from "../tokenizer/huggingface-tokenizer.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import type { Tool } from "../tokenizer/tools.js";
import { ApiError } from "./api-error.js";
import { Limit } from "./limit.js";
import { type ServedEngineOptions, sharedMemory } from "./shared-memory.js";

/** Summary of what a server has chosen for a model. */
export interface ServedSummary {
  /** Name by which clients choose the model. */
  id: string;
  /** Dtype of the model's numbers. */
  dtype: FloatDType;
  /** Name of the device that holds it. */
  device: string;
  /** Bits to which products with quantised weights round activations; null if it has none. */
  activations: 8 | 16 | 24 | null;
  /** Bytes of its weights. */
  weightsBytes: number;
  /** Largest number of tokens of a prompt and its answer, or of a text to embed or to rank. */
  contextLength: number;
  /** Most bytes of keys and values; null if the model keeps none. */
  kvMemory: number | null;
  /** Type of the keys and values; null if the model keeps none. */
  kvType: FloatDType | NonNullable<EngineOptions["kvType"]> | null;
}

/** Options of the conversations with a server's models. */
export type ServedChatOptions = Pick<ChatOptions, "rawControlTokens">;

/** Parts of a conversation besides its messages. */
export interface ConversationParts {
  readonly tools?: readonly Tool[];
  /** Variables of the chat template. */
  readonly variables?: Readonly<Record<string, unknown>>;
  /** True if the beginning of the answer follows the messages. @default true */
  readonly addGenerationPrompt?: boolean;
  /** True if the model continues the last message. @default false */
  readonly continues?: boolean;
}

/** A model that generates, or one of its adapters, under the name that clients give. */
export class ServedLanguageModel {
  private constructor(
    readonly id: string,
    readonly engine: Engine,
    readonly tokenizer: Tokenizer,
    readonly chat: ServedChatOptions,
    /** The model without the adapter; null if this is no adapter. */
    readonly parent: ServedLanguageModel | null = null,
  ) {}

  /** Makes an engine for a model. */
  static of(
    id: string,
    { model, tokenizer, defaults }: LanguageModel,
    options: ServedEngineOptions,
    chat: ServedChatOptions,
  ): ServedLanguageModel {
    const engine = new Engine(model, { ...options, tokenizer, defaults });
    return new ServedLanguageModel(id, engine, tokenizer, chat);
  }

  /** Largest number of tokens of a prompt and its answer. */
  get contextLength(): number {
    return this.engine.contextLength;
  }

  /** Number of tokens that the model knows. */
  get vocabularySize(): number {
    return this.engine.model.config.vocabularySize;
  }

  /** Adapters of the model now, each as a model of its own. The active one is the model itself. */
  get adapters(): ServedLanguageModel[] {
    const { engine, tokenizer, chat } = this;
    const active = engine.activeAdapter;
    return engine.adapters
      .filter((name) => name !== active)
      .map((name) => new ServedLanguageModel(name, engine, tokenizer, chat, this));
  }

  /** Name of the adapter; undefined for the model as it is. */
  get adapter(): string | undefined {
    return this.parent ? this.id : undefined;
  }

  /** Configuration of the tokenizer, as its model was published with it. */
  get tokenizerInfo(): object {
    const { tokenizer } = this;
    if (!(tokenizer instanceof HuggingFaceTokenizer)) return { tokenizer_class: tokenizer.constructor.name };
    const { config, chatTemplate } = tokenizer.toFile();
    return { tokenizer_class: "PreTrainedTokenizerFast", ...config, chat_template: chatTemplate };
  }

  /** Routes that the model answers. */
  get routes(): readonly string[] {
    const chat = hasChatTemplate(this.tokenizer) ? ["/v1/chat/completions", "/v1/responses"] : [];
    return [...chat, "/v1/completions", "/tokenize", "/detokenize"];
  }

  /**
   * Checks that there is room for the answers to a request, before its prompts are read.
   *
   * @throws An `ApiError` if there are more than can ever run and wait; BusyError if there are too many now.
   */
  checkRoom(prompts: number, n: number | null | undefined): void {
    const answers = prompts * (n ?? 1);
    const { mostAnswers } = this.engine;
    if (answers > mostAnswers) {
      const text = `Expected at most ${mostAnswers} answers to a request, as many as the server lets run and wait, got ${answers}: ${prompts} × n.`;
      throw new ApiError(429, text, { param: "n", code: "too_many_answers" });
    }
    this.engine.checkRoom(answers);
  }

  /**
   * Resolves to the tokens of a text. An empty one is the end-of-text token, with which a new text begins. Of a text that
   * is too long, no more is encoded than shows that it is: megabytes would keep a core busy for a long time. If no
   * special tokens are added, the names of such tokens in the text stand for them, and an empty text has no tokens.
   */
  async textTokens(text: string, addSpecialTokens = true): Promise<Int32Array> {
    const { tokenizer } = this;
    if (!addSpecialTokens && tokenizer instanceof HuggingFaceTokenizer) {
      const options = { addSpecialTokens, special: true, maxLength: this.contextLength + 1 };
      return this.#fittingStart(await tokenizer.encodeAsync(text, options), "prompt");
    }
    return this.#fittingStart(await encodePrompt(this.tokenizer, text, this.contextLength + 1), "prompt");
  }

  /**
   * Resolves to the tokens of a conversation, which is the value of `param`, and the beginning of its answer. Nothing is
   * rendered for a client that has left.
   */
  async chatTokens(
    messages: readonly ChatMessage[],
    param: string,
    { tools = [], variables = {}, ...end }: ConversationParts,
    { signal, warn }: { signal: AbortSignal; warn: (text: string) => void },
  ): Promise<Int32Array> {
    const { tokenizer } = this;
    if (!hasChatTemplate(tokenizer)) {
      const text = `The model ${JSON.stringify(this.id)} has no chat template. Use /v1/completions.`;
      throw new ApiError(400, text, { param: "model", code: "no_chat_template" });
    }
    const options = { ...this.chat, variables, ...end, maxLength: this.contextLength + 1, signal };
    const { tokens, describesTools } = await encodeConversation(tokenizer, messages, tools, options);
    if (describesTools && !noted.has(tokenizer)) {
      noted.add(tokenizer);
      warn(`model ${JSON.stringify(this.id)}: ${describedToolsNote}`);
    }
    return this.#fittingStart(tokens, describesTools ? "tools" : param);
  }

  /**
   * Returns the tokens of a prompt, which is the value of `param`.
   *
   * @throws An `ApiError` if the context has no room for them.
   */
  fitting<T extends ArrayLike<number>>(tokens: T, param: string): T {
    if (tokens.length <= this.contextLength) return tokens;
    throw this.#tooLong(tokens.length, param);
  }

  /** Returns the same of a text that was encoded only so far that one token does not fit. */
  #fittingStart(tokens: Int32Array, param: string): Int32Array {
    if (tokens.length <= this.contextLength) return tokens;
    throw this.#tooLong(null, param);
  }

  /** Returns the error of a prompt of `count` tokens, or of an unknown number of them. */
  #tooLong(count: number | null, param: string): ApiError {
    const { contextLength, engine } = this;
    const { limited, bytes } = engine.room;
    const needed = `${count === null ? "more than " : ""}${engine.room.bytesFor(count ?? contextLength)}`;
    const shortage = limited ? ` Its keys and values need ${needed} bytes, and the server has ${bytes} for them.` : "";
    // LiteLLM and others know this error by OpenAI's words.
    const text = `This model's maximum context length is ${contextLength} tokens. However, the prompt has ${count ?? "more"}.${shortage} Shorten it.`;
    return new ApiError(400, text, { param, code: "context_length_exceeded" });
  }
}

/** Tokenizers of models of which the log says that their tools are described in the system message. */
const noted = new WeakSet<Tokenizer>();

function hasChatTemplate(tokenizer: Tokenizer): tokenizer is HuggingFaceTokenizer {
  return tokenizer instanceof HuggingFaceTokenizer && tokenizer.chatTemplate !== null;
}

/** A model that embeds, under the name that clients give. */
export class ServedEmbeddingModel {
  /** Routes that the model answers. */
  readonly routes = ["/v1/embeddings", "/pooling", "/v1/rerank", "/v1/score"];
  /** Requests that run or wait: they share batches, so none waits for another. */
  readonly limit = new Limit(1024);

  constructor(
    readonly id: string,
    readonly model: EmbeddingModel,
  ) {}

  /** Largest number of tokens of a text. */
  get contextLength(): number {
    return this.model.recipe.maxLength ?? this.model.model.config.contextLength;
  }

  /** Number of tokens that the model knows. */
  get vocabularySize(): number {
    return this.model.model.config.vocabularySize;
  }
}

/** A model that classifies texts, or that compares documents with a query, under the name that clients give. */
export class ServedRankingModel {
  /** Routes that the model answers. */
  readonly routes: readonly string[];
  readonly limit = new Limit(1024);

  constructor(
    readonly id: string,
    readonly model: ClassifierModel,
  ) {
    this.routes = [...(this.ranks ? ["/v1/rerank", "/v1/score"] : []), "/v1/classify", "/pooling"];
  }

  /** True if the model ranks documents, as one with a single label does. */
  get ranks(): boolean {
    return this.model.model.labels.length === 1;
  }

  /** Largest number of tokens of a query and a document together. */
  get contextLength(): number {
    return this.model.model.encoder.config.contextLength;
  }

  /** Number of tokens that the model knows. */
  get vocabularySize(): number {
    return this.model.model.encoder.config.vocabularySize;
  }
}

/** A model that a server can serve. */
export type ServableModel = LanguageModel | EmbeddingModel | ClassifierModel;

/** Models of a server. The models stay the caller's; the engines are the server's. */
export class ServedModels {
  /** Time at which the server began to serve them, in seconds since 1970. */
  readonly created = Math.floor(Date.now() / 1000);
  readonly #language: ServedLanguageModel[] = [];
  readonly #embedding: ServedEmbeddingModel[] = [];
  readonly #ranking: ServedRankingModel[] = [];

  /** @throws ERR_ARGUMENT if there is no model, or one is of another kind. */
  constructor(
    models: Readonly<Record<string, ServableModel>>,
    options: ServedEngineOptions = {},
    chat: ServedChatOptions = {},
  ) {
    checkObject("server", "engine", options);
    const optionsOf = sharedMemory(Object.values(models), options);
    for (const [id, model] of Object.entries(models)) {
      if (model instanceof LanguageModel)
        this.#language.push(ServedLanguageModel.of(id, model, optionsOf(model), chat));
      else if (model instanceof EmbeddingModel) this.#embedding.push(new ServedEmbeddingModel(id, model));
      else if (model instanceof ClassifierModel) this.#ranking.push(new ServedRankingModel(id, model));
      else
        throw new HeedError(
          "ERR_ARGUMENT",
          `server: expected ${JSON.stringify(id)} to be a LanguageModel, an EmbeddingModel or a ClassifierModel, got another value`,
        );
    }
    if (this.all.length === 0) throw new HeedError("ERR_ARGUMENT", "server: expected at least one model, got none");
  }

  /** All models, with the adapters that they have now. An adapter with the name of a model cannot be chosen. */
  get all(): readonly (ServedLanguageModel | ServedEmbeddingModel | ServedRankingModel)[] {
    const names = new Set(this.#models.map(({ id }) => id));
    return [...this.#models, ...this.#adapters.filter(({ id }) => !names.has(id) && names.add(id))];
  }

  get #models(): readonly (ServedLanguageModel | ServedEmbeddingModel | ServedRankingModel)[] {
    return [...this.#language, ...this.#embedding, ...this.#ranking];
  }

  get #adapters(): ServedLanguageModel[] {
    return this.#language.flatMap(({ adapters }) => adapters);
  }

  /**
   * Returns the model or the adapter that a request names, or the first model if it names none. An adapter is kept in its
   * model until the function is called that is added to `releases`.
   */
  language(id: string | null | undefined, releases: (() => void)[]): ServedLanguageModel {
    const isModel = this.#models.some((model) => model.id === id);
    const adapter = isModel || typeof id !== "string" ? undefined : this.#adapters.find((one) => one.id === id);
    if (adapter) releases.push(adapter.engine.holdAdapter(adapter.id));
    return adapter ?? this.#find(this.#language, id, "generates text");
  }

  /** Returns the model that a request names, or the first if it names none. */
  embedding(id: string | null | undefined): ServedEmbeddingModel {
    return this.#find(this.#embedding, id, "embeds text");
  }

  /** Returns the model that a request names, or the first if it names none: one that ranks rather than one that embeds. */
  ranking(id: string | null | undefined): ServedRankingModel | ServedEmbeddingModel {
    const ranking = this.#ranking.filter(({ ranks }) => ranks);
    return this.#find([...ranking, ...this.#embedding], id, "ranks or embeds text");
  }

  /** Returns the model that a request names, or the first if it names none: one that embeds rather than one that classifies. */
  pooling(id: string | null | undefined): ServedEmbeddingModel | ServedRankingModel {
    return this.#find([...this.#embedding, ...this.#ranking], id, "embeds or classifies text");
  }

  /** Returns the model that a request names, or the first if it names none. */
  classifier(id: string | null | undefined): ServedRankingModel {
    return this.#find(this.#ranking, id, "classifies texts");
  }

  /** Largest number of answers that each engine lets run and wait; Infinity if there is none. */
  get mostAnswers(): number {
    return Math.min(...this.#language.map(({ engine }) => engine.mostAnswers));
  }

  /** Returns the figures of each engine with the name of its model. */
  metrics(): { id: string; metrics: EngineMetrics }[] {
    return this.#language.map(({ id, engine }) => ({ id, metrics: engine.metrics }));
  }

  /** Returns what was chosen for each model. */
  get summaries(): ServedSummary[] {
    const of = (id: string, model: Engine["model"] | EmbeddingModel["model"] | ClassifierModel["model"]) => ({
      ...{ id, dtype: model.dtype, device: model.device.name, weightsBytes: model.bytes },
      activations: model.activations,
    });
    const none = { kvMemory: null, kvType: null };
    return [
      ...this.#language.map(({ id, engine }) => {
        const { contextLength, room, model } = engine;
        return {
          ...of(id, model),
          contextLength,
          kvMemory: room.bytes,
          kvType: room.kvType,
        };
      }),
      ...this.#embedding.map(({ id, model, contextLength }) => ({ ...of(id, model.model), contextLength, ...none })),
      ...this.#ranking.map(({ id, model, contextLength }) => ({ ...of(id, model.model), contextLength, ...none })),
    ];
  }

  /** Resolves to true if each engine can compute. */
  async work(): Promise<boolean> {
    return (await Promise.all(this.#language.map(({ engine }) => engine.works()))).every(Boolean);
  }

  /** Closes the engines when their requests are done. */
  async close(): Promise<void> {
    await Promise.all(this.#language.map(({ engine }) => engine.close()));
  }

  #find<T extends { id: string }>(models: readonly T[], id: string | null | undefined, does: string): T {
    const found = id === undefined || id === null ? models[0] : models.find((model) => model.id === id);
    if (found) return found;
    if (id !== undefined && id !== null && !this.all.some((model) => model.id === id))
      throw new ApiError(404, `The model ${describe(id)} does not exist. /v1/models lists those that do.`, {
        ...{ param: "model", code: "model_not_found" },
      });
    throw new ApiError(400, `Expected a model that ${does}. /v1/models lists the models.`, {
      ...{ param: "model", code: "unsupported_model" },
    });
  }
}
