import { text } from "node:stream/consumers";
import { setThreads } from "../core/device.js";
import type { Generation } from "../generate/generation.js";
import type { ChatGenerationOptions, LanguageModel } from "../load/language-model.js";
import { load } from "../load/load.js";
import { withoutMark } from "../util/files.js";
import { UsageError, usageOf } from "./failure.js";
import { type GenerateFlags, samplingDefaults } from "./generate-flags.js";
import { type EngineFlags, engineOptions, typeOptions } from "./inference-options.js";
import { print } from "./output.js";

/** Runs `heed generate`: prints a text while it is generated. */
export async function run(argument: string | undefined, flags: GenerateFlags): Promise<void> {
  const {
    model: name,
    adapter,
    ema,
    prompt,
    chat = false,
    rawControlTokens,
    system,
    threads,
    device,
    dtype,
    quantize,
    activations,
    echo,
    context,
    kvMemory,
    kvType,
    ...options
  } = flags;
  if (argument !== undefined && prompt !== undefined)
    throw new UsageError("--prompt: expected one prompt, got another as an argument");
  if (system !== undefined && !chat) throw new UsageError("--system: works only with --chat");
  if (rawControlTokens && !chat) throw new UsageError("--raw-control-tokens: works only with --chat");
  if (threads !== undefined) setThreads(threads);
  using model = await load(name, {
    ...{ kind: "causal", device, ...typeOptions({ dtype, quantize, activations }) },
    engine: engineOptions({ context, kvMemory, kvType } as EngineFlags),
    ...(adapter !== undefined && { adapter }),
    ...(ema && { average: true }),
  });
  const words = prompt ?? argument;
  const given = words === "-" ? withoutMark(await text(process.stdin)) : words;
  const { contextLength } = model.model.config;
  const settings = { maxTokens: flags.context ?? contextLength, ...samplingDefaults, ...model.defaults, ...options };
  try {
    const generation = chat
      ? answer(model, given ?? "", system, { ...settings, ...(rawControlTokens && { rawControlTokens }) })
      : model.generate(given ?? startFor(model), { ...settings, echo: echo && given !== undefined });
    for await (const { text: piece } of generation) await print(piece);
  } catch (cause) {
    throw usageOf(cause);
  }
  if (process.stdout.isTTY) await print("\n");
}

/**
 * Returns the prompt that is used if none is given: the empty one, so that generation begins after an end of text, or a
 * line break if the vocabulary has no end of text.
 */
function startFor({ tokenizer }: LanguageModel): string {
  return tokenizer.endOfText === null ? "\n" : "";
}

/** Returns the model's answer in a conversation of one message. */
function answer(
  model: LanguageModel,
  message: string,
  system: string | undefined,
  options: ChatGenerationOptions,
): Generation {
  return model.chat(
    [...(system === undefined ? [] : [{ role: "system", content: system }]), { role: "user", content: message }],
    options,
  );
}
