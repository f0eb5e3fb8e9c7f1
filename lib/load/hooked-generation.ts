// Texts that a loaded model generates with hooks: alone, outside of the batch of its engine.
import { checkBoolean } from "../util/check.js";
import type { ConversationOptions, RequestOptions } from "../engine/engine-request.js";
import { promptOf } from "../engine/prompt.js";
import { HeedError } from "../util/errors.js";
import { aloneSource, generate, generateFrom } from "../generate/generate-text.js";
import type { Generation } from "../generate/generation.js";
import type { TextOptions } from "../generate/options.js";
import { withHooks } from "../inspect/hooked-model.js";
import type { HooksOf } from "../inspect/run.js";
import type { CausalDecoder } from "../models/causal-decoder.js";
import { answerRules } from "../structured/answer-rules.js";
import type { ChatMessage } from "../tokenizer/chat-template.js";
import type { HuggingFaceTokenizer } from "../tokenizer/huggingface-tokenizer.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";

/**
 * Continues a prompt while hooks listen.
 *
 * @throws ERR_ARGUMENT if an option is given that only a request to an engine has, or the model has no value of a hook's
 *   name.
 */
export function generateWithHooks(
  model: CausalDecoder,
  tokenizer: Tokenizer | null,
  prompt: string | Int32Array,
  hooks: HooksOf<CausalDecoder>,
  options: TextOptions & RequestOptions,
): Generation {
  checkAlone("generate", options);
  return generate(withHooks(model, hooks), tokenizer, prompt, options);
}

/**
 * Answers a conversation while hooks listen. Tools and reasoning are those of an answer without hooks.
 *
 * @throws ERR_ARGUMENT as `generateWithHooks` does, or if the tools are invalid.
 */
export function chatWithHooks(
  model: CausalDecoder,
  tokenizer: HuggingFaceTokenizer,
  messages: readonly ChatMessage[],
  hooks: HooksOf<CausalDecoder>,
  options: TextOptions & RequestOptions & ConversationOptions,
): Generation {
  checkAlone("chat", options);
  const { tools = [], toolChoice = "auto", parallelToolCalls = true, variables = {}, ...rest } = options;
  const { rawControlTokens = false, thinkingBudget = null, ...given } = rest;
  const text = { maxTokens: model.config.contextLength, ...given };
  checkBoolean("chat", "parallelToolCalls", parallelToolCalls);
  const conversation = { messages, tools, toolChoice, variables, rawControlTokens, signal: options.signal };
  const prompt = promptOf(conversation, tokenizer);
  const answering = { format: text.format ?? null, tools, toolChoice, parallelToolCalls, thinkingBudget };
  const answers = answerRules(tokenizer, answering);
  const hooked = withHooks(model, hooks);
  return generateFrom(hooked, tokenizer, prompt, text, null, aloneSource(hooked, answers));
}

/** Checks that no option is given that only a request to an engine has. */
function checkAlone(op: string, options: RequestOptions): void {
  const { n, logprobs, priority, speculation, adapter, deadline, cacheSalt } = options;
  const own = { n, logprobs, priority, speculation, adapter, deadline, cacheSalt };
  const given = Object.entries(own).find(([, value]) => value !== undefined);
  if (given)
    throw new HeedError("ERR_ARGUMENT", `${op}: expected no option ${given[0]} together with hooks, got ${given[1]}`);
}
