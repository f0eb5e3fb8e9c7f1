import type { TextOptions } from "../generate/options.js";
import type { ChatMessage, ChatOptions } from "../tokenizer/chat-template.js";
import type { Tool, ToolChoice } from "../tokenizer/tools.js";

/** Options of an engine's request besides those of its text. */
export interface RequestOptions {
  /**
   * Number of texts to generate for the prompt, which is computed once; at most the engine's `maxSequences` and `maxQueue`
   * together.
   *
   * @default 1
   */
  n?: number;
  /**
   * Number of most likely tokens whose log-probabilities are given beside those of each generated token; 0 gives those
   * of the generated tokens alone. Without it, there are none.
   */
  logprobs?: number | undefined;
  /** Requests with a higher priority are served first. @default 0 */
  priority?: number;
  /** False turns the engine's speculation off for the request. @default true */
  speculation?: boolean;
  /**
   * Name of the model's adapter with which the text is generated, or null for the model alone. Requests with different
   * adapters are computed together.
   *
   * @default the model's active adapter, if it has one
   */
  adapter?: string | null | undefined;
  /** @internal True if the caller keeps the adapter in the model until the first token is there. */
  adapterHeld?: boolean;
  /**
   * Text that a request must have in common with another to use what the prefix cache has of the other's tokens. The
   * time and the `cachedTokens` of a request tell nothing about requests with another salt.
   *
   * @default none: all requests without a salt share the cache
   */
  cacheSalt?: string | undefined;
  /**
   * Time after which nobody waits for the text any more, in milliseconds since the epoch, as `Date.now()` gives them.
   * The text then ends as it is, with the finish reason "deadline".
   *
   * @default Infinity
   */
  deadline?: number;
}

/** Options of the answer to a conversation. */
export interface ConversationOptions extends Pick<ChatOptions, "variables" | "rawControlTokens"> {
  /** Maximum number of tokens of the answer. @default as many as the context has room for */
  maxTokens?: number;
  /** Tools that the model may call. The chat template presents them to the model. @default [] */
  tools?: readonly Tool[];
  /** Says if the model calls tools. @default "auto" */
  toolChoice?: ToolChoice;
  /** True if an answer may have more than one call of a tool. @default true */
  parallelToolCalls?: boolean;
  /**
   * Maximum number of tokens of reasoning, without the texts that mark it. After them, the text that ends reasoning in the
   * chat template follows, and the model goes on with its answer. It has no effect on models that do not reason.
   *
   * @default no bound
   */
  thinkingBudget?: number | undefined;
}

/** A request to an `Engine`: a prompt, messages of a chat, or tokens, with options. */
export interface EngineRequest extends TextOptions, RequestOptions, ConversationOptions {
  /** Text to continue. */
  prompt?: string;
  /** Conversation to answer, which the tokenizer's chat template formats. */
  messages?: readonly ChatMessage[];
  /** Tokens to continue. */
  tokens?: ArrayLike<number>;
  /**
   * True if `tokens` are a conversation that the chat template has formatted, with the tools. Reasoning and calls of
   * tools are then separated from the text, as they are in the answer to `messages`.
   *
   * @default false
   */
  chat?: boolean;
}
