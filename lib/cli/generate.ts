import { text } from "node:stream/consumers";
import { setThreads } from "../device.js";
import { HeedError } from "../errors.js";
import { generate } from "../generate/generate-text.js";
import { loadModel } from "../pretrained/load-model.js";
import { HuggingFaceTokenizer } from "../tokenizer/huggingface-tokenizer.js";
import { encodeText, type Tokenizer } from "../tokenizer/tokenizer.js";
import { asUsage, UsageError, usageOf } from "./failure.js";
import { type GenerateFlags, samplingDefaults } from "./generate-flags.js";
import { quantizedTypes } from "./inference-options.js";
import { print } from "./output.js";

/** Prints a text while it is generated. */
export async function run(argument: string | undefined, flags: GenerateFlags): Promise<void> {
  const { model: name, prompt, chat = false, system, threads, device, dtype, quantize, echo, ...options } = flags;
  if (argument !== undefined && prompt !== undefined)
    throw new UsageError("--prompt: the prompt is there already, as an argument");
  if (system !== undefined && !chat) throw new UsageError("--system: only with --chat");
  if (threads !== undefined) setThreads(threads);
  const { model, tokenizer, defaults } = await loadModel(name, {
    device,
    dtype,
    ...(quantize && { quantize: quantizedTypes[quantize] }),
  });
  if (!tokenizer) throw new HeedError("ERR_FORMAT", `${name}: expected a model with a tokenizer, found none`);
  const words = prompt ?? argument;
  const given = words === "-" ? await text(process.stdin) : words;
  // Without a prompt, a text begins after an end of text or, where the vocabulary has none, after a line.
  const start = given ?? (tokenizer.endOfText === null ? "\n" : "");
  const tokens = await (chat ? chatTokens(name, tokenizer, start, system) : promptTokens(tokenizer, start));
  const pieces = asUsage(() => generate(model, tokenizer, tokens, { ...samplingDefaults, ...defaults, ...options }));
  try {
    if (echo && !chat && given !== undefined) await print(given);
    for await (const { text: piece } of pieces) await print(piece);
  } catch (cause) {
    throw usageOf(cause);
  }
  if (process.stdout.isTTY) await print("\n");
}

/** A prompt's tokens; of an empty one, the end of text that a text begins after. Throws a UsageError where there is none. */
async function promptTokens(tokenizer: Tokenizer, prompt: string): Promise<Int32Array> {
  const tokens = await encodeText(tokenizer, prompt).catch((cause: unknown) => {
    throw usageOf(cause);
  });
  if (tokens.length > 0) return tokens;
  if (tokenizer.endOfText !== null) return Int32Array.of(tokenizer.endOfText);
  throw new UsageError("expected a prompt that is not empty: the model has no token for a text to begin after");
}

/** A conversation of one message, up to where the answer begins. */
async function chatTokens(
  name: string,
  tokenizer: Tokenizer,
  message: string,
  system: string | undefined,
): Promise<Int32Array> {
  if (!(tokenizer instanceof HuggingFaceTokenizer) || !tokenizer.chatTemplate)
    throw new UsageError(`--chat: expected a model with a chat template, found none in ${name}`);
  return tokenizer.encodeChatAsync([
    ...(system === undefined ? [] : [{ role: "system", content: system }]),
    { role: "user", content: message },
  ]);
}
