// A model of heed behind LangChain's interface of chat models.
import type { CallbackManagerForLLMRun } from "@langchain/core/callbacks/manager";
import type { BaseLanguageModelInput, StructuredOutputMethodOptions } from "@langchain/core/language_models/base";
import {
  BaseChatModel,
  type BaseChatModelCallOptions,
  type BaseChatModelParams,
  type BindToolsInput,
} from "@langchain/core/language_models/chat_models";
import {
  assembleStructuredOutputPipeline,
  createContentParser,
  createFunctionCallingParser,
} from "@langchain/core/language_models/structured_output";
import type { AIMessageChunk, BaseMessage, MessageContent } from "@langchain/core/messages";
import { ChatGenerationChunk, type ChatResult } from "@langchain/core/outputs";
import type { Runnable } from "@langchain/core/runnables";
import { toJsonSchema } from "@langchain/core/utils/json_schema";
import type { SerializableSchema } from "@langchain/core/utils/standard_schema";
import type { InteropZodType } from "@langchain/core/utils/types";
import { checkChoice } from "../../util/check.js";
import type { Generation } from "../../generate/generation.js";
import type { JsonSchema } from "../../util/json-schema.js";
import type { ChatGenerationOptions, LanguageModel } from "../../load/language-model.js";
import { definedOptions } from "../../load/loaded.js";
import { encodeText } from "../../tokenizer/tokenizer.js";
import { LazyModel, type ModelLoadOptions } from "../lazy-model.js";
import { callNames, checkFields, parameterNames } from "./fields.js";
import { answerOf, chunkOf, messageOf } from "./messages.js";
import { toolChoiceOf, toolOf } from "./tools.js";

const settingNames = [
  ...(["maxTokens", "temperature", "topP", "topK", "minP", "typicalP", "seed", "stop", "stopTokens"] as const),
  ...(["presencePenalty", "frequencyPenalty", "repetitionPenalty", "minTokens", "logitBias", "overflow"] as const),
  ...(["format", "parallelToolCalls", "variables", "priority", "deadline", "speculation"] as const),
  ...(["adapter", "cacheSalt", "rawControlTokens"] as const),
] as const satisfies readonly (keyof ChatGenerationOptions)[];

/** Settings of `ChatHeed` that a call can override; see `LanguageModel.chat`. */
export type ChatHeedSettings = Pick<ChatGenerationOptions, (typeof settingNames)[number]>;

/** Parameters of `ChatHeed`. */
export interface ChatHeedInput extends BaseChatModelParams, ChatHeedSettings {
  /** A loaded model, or a name that `load` takes. Then the first call loads it. */
  model: string | LanguageModel;
  /** Options for loading the model. @default {} */
  load?: ModelLoadOptions;
}

/** Options of a call of `ChatHeed`. */
export interface ChatHeedCallOptions extends BaseChatModelCallOptions, Omit<ChatHeedSettings, "stop"> {
  /** Tools that the model may call. @default [] */
  tools?: readonly BindToolsInput[];
  /**
   * If true, keywords that JSON Schema does not know are refused in the tools' parameters, unless a tool says it itself.
   * Schemas are followed without it, too.
   *
   * @default false
   */
  strict?: boolean;
}

type OutputSchema<T> = SerializableSchema<T> | InteropZodType<T> | Record<string, unknown>;

/**
 * A chat model of LangChain that runs in the process. Calls at the same time are computed together, as one batch.
 *
 * @example
 * // This downloads a model.
 * await using chat = new ChatHeed({ model: "Qwen/Qwen3-0.6B", temperature: 0.7 });
 * const { content } = await chat.invoke("Why is the sky blue?");
 * for await (const { text } of await chat.stream("Why is the sky blue?")) process.stdout.write(text);
 */
export class ChatHeed extends BaseChatModel<ChatHeedCallOptions> implements AsyncDisposable {
  readonly #model: LazyModel<"causal">;
  readonly #settings: ChatHeedSettings;

  /**
   * Creates a chat model.
   *
   * @throws ERR_ARGUMENT if the model is neither a name nor a `LanguageModel`, or if there is no such setting.
   */
  constructor(fields: ChatHeedInput) {
    checkFields("ChatHeed", fields, [...settingNames, ...parameterNames]);
    super(fields);
    this.#model = new LazyModel("ChatHeed", "causal", fields.model, fields.load);
    this.#settings = settingsOf(fields);
  }

  /** Returns the name of the class, by which LangChain serialises the model. */
  static override lc_name(): string {
    return "ChatHeed";
  }

  // These methods of LangChain's interface are in the declarations, since subclasses would lack abstract ones without them.
  /** Returns "heed", by which LangChain tells kinds of models apart. */
  override _llmType(): string {
    return "heed";
  }

  /** Returns the fields by which LangChain's cache tells models apart. */
  override _identifyingParams(): Record<string, unknown> {
    return { model: this.#model.id, ...this.#settings };
  }

  /** Returns the fields of a call that traces show. */
  override invocationParams({ tools, tool_choice, ...options }: this["ParsedCallOptions"] = {}): Record<
    string,
    unknown
  > {
    return { ...this._identifyingParams(), ...settingsOf(options), tools, tool_choice };
  }

  /** Resolves to the answer to a conversation, for `invoke`. */
  override async _generate(messages: BaseMessage[], options: this["ParsedCallOptions"]): Promise<ChatResult> {
    const { generation } = await this.#begin(messages, options);
    const result = await generation;
    const message = answerOf(result, this.#model.id);
    const { promptTokens, completionTokens } = result.usage;
    const tokenUsage = { promptTokens, completionTokens, totalTokens: promptTokens + completionTokens };
    return { generations: [{ text: message.text, message }], llmOutput: { tokenUsage } };
  }

  /** Yields the parts of the answer to a conversation, for `stream`. */
  override async *_streamResponseChunks(
    messages: BaseMessage[],
    options: this["ParsedCallOptions"],
    runManager?: CallbackManagerForLLMRun,
  ): AsyncGenerator<ChatGenerationChunk> {
    const { generation } = await this.#begin(messages, options);
    for await (const { text, reasoning, toolCalls } of generation) {
      if (text === "" && !reasoning && !toolCalls?.length) continue;
      const chunk = new ChatGenerationChunk({ text, message: chunkOf({ text, reasoning, toolCalls }) });
      yield chunk;
      await runManager?.handleLLMNewToken(text, undefined, undefined, undefined, undefined, { chunk });
    }
    const end = { result: await generation, model: this.#model.id };
    yield new ChatGenerationChunk({ text: "", message: chunkOf({ end }) });
  }

  /**
   * Resolves to the number of tokens that the model's tokenizer makes of a text, or of the texts in the content of a
   * message. Other blocks of the content do not count. The first call loads the model, as `invoke` does.
   *
   * @throws ERR_ARGUMENT if the model has no tokenizer. Other errors are those of `load`.
   */
  override async getNumTokens(content: MessageContent): Promise<number> {
    const text =
      typeof content === "string"
        ? content
        : content.map((block) => (block.type === "text" ? String(block.text) : "")).join("");
    const { tokenizer } = await this.#model.get();
    return (await encodeText(tokenizer, text)).length;
  }

  /** Returns the model with tools, which are those of LangChain or in OpenAI's form. */
  override bindTools(
    tools: BindToolsInput[],
    options: Partial<ChatHeedCallOptions> = {},
  ): Runnable<BaseLanguageModelInput, AIMessageChunk, ChatHeedCallOptions> {
    return this.withConfig({ ...options, tools });
  }

  /**
   * Returns the model with a parser of its answers, which have the form of a schema: one of Zod, another library's, or a
   * JSON schema. By default (`method: "jsonSchema"`) only texts that match the schema can be generated. With
   * "functionCalling", the model calls a tool with the object; with "jsonMode", it writes any JSON. With `strict: true`,
   * keywords of the schema that JSON Schema does not know are refused.
   *
   * @throws ERR_ARGUMENT if there is no such method.
   */
  override withStructuredOutput<T extends Record<string, unknown> = Record<string, unknown>>(
    schema: OutputSchema<T>,
    options?: StructuredOutputMethodOptions,
  ): Runnable<BaseLanguageModelInput, T>;
  override withStructuredOutput<T extends Record<string, unknown> = Record<string, unknown>>(
    schema: OutputSchema<T>,
    options?: StructuredOutputMethodOptions<true>,
  ): Runnable<BaseLanguageModelInput, { raw: BaseMessage; parsed: T }>;
  override withStructuredOutput<T extends Record<string, unknown>>(
    schema: OutputSchema<T>,
    {
      method = "jsonSchema",
      name = "extract",
      includeRaw = false,
      strict,
    }: StructuredOutputMethodOptions<boolean> = {},
  ): Runnable<BaseLanguageModelInput> {
    checkChoice("withStructuredOutput", "method", method, ["jsonSchema", "functionCalling", "jsonMode"]);
    const parameters = toJsonSchema(schema as SerializableSchema<T>) as JsonSchema;
    if (method === "functionCalling") {
      const tool = { type: "function", function: { name, parameters, strict } };
      const model = this.bindTools([tool], { tool_choice: name });
      return assembleStructuredOutputPipeline(model, createFunctionCallingParser<T>(schema as never, name), includeRaw);
    }
    const model = this.withConfig({
      format: method === "jsonMode" ? { type: "json" } : { type: "json-schema", schema: parameters, strict },
    });
    return assembleStructuredOutputPipeline(model, createContentParser<T>(schema as never), includeRaw);
  }

  /** Frees the model, unless it was given loaded. The next call loads it again. */
  close(): Promise<void> {
    return this.#model.close();
  }

  /** Does the same as `close()`, at the end of the block that declares it with `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Returns the generation as a property, because a promise of it would wait for its result. */
  async #begin(
    messages: readonly BaseMessage[],
    { tools = [], tool_choice, strict, stop, signal, ...options }: this["ParsedCallOptions"],
  ): Promise<{ generation: Generation }> {
    checkFields("ChatHeed", options, [...settingNames, ...callNames]);
    const conversation = messages.map(messageOf);
    const model = await this.#model.get(signal);
    const chosen = definedOptions<ChatGenerationOptions>({
      // By default, an answer may fill the context.
      ...{ maxTokens: model.model.config.contextLength, ...this.#settings, ...settingsOf(options) },
      ...(stop && { stop }),
      ...(tools.length > 0 && {
        tools: tools.map((tool) => toolOf(tool, strict)),
        toolChoice: toolChoiceOf(tool_choice),
      }),
      signal,
    });
    return { generation: model.chat(conversation, chosen) };
  }
}

/** Returns the settings among some fields. */
function settingsOf(fields: object): ChatHeedSettings {
  const names: readonly string[] = settingNames;
  return definedOptions(Object.fromEntries(Object.entries(fields).filter(([name]) => names.includes(name))));
}
