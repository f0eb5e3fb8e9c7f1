import { type Command, Option } from "commander";
import { text as read } from "node:stream/consumers";
import { setThreads } from "../../core/device.js";
import type { Generation } from "../../generate/generation.js";
import type { ChatGenerationOptions, LanguageModel } from "../../load/language-model.js";
import { load } from "../../load/load.js";
import { largestFloat, smallestFloat } from "../../util/check.js";
import { withoutMark } from "../../util/files.js";
import { integer, number, repeatable, text } from "../arguments.js";
import { UsageError, usageOf } from "../failure.js";
import {
  type EngineFlags,
  engineOptions,
  type InferenceFlags,
  inferenceOptions,
  typeOptions,
} from "../inference-options.js";
import { print } from "../output.js";

/** The flags of `heed generate`. */
interface GenerateFlags extends InferenceFlags, EngineFlags {
  model: string;
  adapter?: string;
  ema?: boolean;
  prompt?: string;
  chat?: boolean;
  rawControlTokens?: boolean;
  system?: string;
  maxTokens?: number;
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  typicalP?: number;
  repetitionPenalty?: number;
  presencePenalty?: number;
  frequencyPenalty?: number;
  minTokens?: number;
  seed?: number;
  stop?: string[];
  overflow: "error" | "slide";
  echo: boolean;
}

/** Defaults for options that neither the user nor the model's generation_config.json sets. */
const samplingDefaults = {
  temperature: 1,
  topK: 0,
  topP: 1,
  minP: 0,
  typicalP: 1,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
} as const;

/** Adds the arguments and the options of `heed generate`. */
export function define(command: Command): Command {
  command
    .argument("[prompt]", 'the text to continue; "-" reads it from stdin')
    .requiredOption(
      "--model <name>",
      "a run's folder, a folder in Hugging Face's format, a .gguf file, a llama2.c .bin file, or a model on the hub: owner/name or hf:owner/name/file.gguf",
      text,
    )
    .option("--adapter <folder>", "an adapter in PEFT's format to add to the model", text)
    .option("--ema", "use the average of the weights that heed train --ema has saved in the run's folder")
    .option("--prompt <text>", "the text to continue, instead of the argument")
    .option("--chat", "treat the prompt as a message, and answer it by the model's chat template")
    .option("--raw-control-tokens", "with --chat: let the message name control tokens such as <|im_end|>")
    .option("--system <text>", "with --chat: instructions to the model that come before the message")
    .option(
      "--max-tokens <n>",
      "largest number of tokens to generate (default: as many as the context has room for, or as it has with --overflow slide)",
      integer(1),
    )
    .option("--min-tokens <n>", "do not end the text before n tokens have been generated (default: 0)", integer(0));
  addSampling(command);
  return command
    .option("--stop <text>", "stop before this text; may be given several times", repeatable)
    .addOption(
      new Option(
        "--overflow <what>",
        "if the text outgrows the context: fail or stop (error), or drop the start of the text (slide)",
      )
        .choices(["error", "slide"])
        .default("error"),
    )
    .option("--no-echo", "print the new text only, without the prompt")
    .addOption(inferenceOptions.context)
    .addOption(inferenceOptions.kvMemory)
    .addOption(inferenceOptions.kvType)
    .addOption(inferenceOptions.dtype)
    .addOption(inferenceOptions.quantize)
    .addOption(inferenceOptions.activations)
    .addOption(inferenceOptions.device)
    .addOption(inferenceOptions.threads)
    .addHelpText(
      "after",
      `
Examples:
  $ heed generate --model runs/book "Once upon a time"
  $ heed generate --model runs/book --max-tokens 500 --temperature 0.7 --top-p 0.9 "It was"
  $ heed generate --model runs/book --seed 1 --no-echo - < prompt.txt
  $ heed generate --model runs/book --quantize int8 "It was"
  $ heed generate --model HuggingFaceTB/SmolLM2-135M-Instruct --chat "Why is the sky blue?"`,
    )
    .action(run);
}

/** Adds the options about how each token is chosen. */
function addSampling(command: Command): void {
  const or = (value: number): string => `(default: the model's own, or ${value})`;
  command
    .option(
      "--temperature <x>",
      `how random the choice of tokens is; 0 always takes the likeliest token ${or(samplingDefaults.temperature)}`,
      number(0),
    )
    .option(
      "--top-k <n>",
      `choose among the n likeliest tokens only; 0 turns this off ${or(samplingDefaults.topK)}`,
      integer(0),
    )
    .option(
      "--top-p <x>",
      `choose among the likeliest tokens that together have probability x ${or(samplingDefaults.topP)}`,
      number(smallestFloat, 1),
    )
    .option(
      "--min-p <x>",
      `choose among tokens at least x times as likely as the likeliest ${or(samplingDefaults.minP)}`,
      number(0, 1),
    )
    .option(
      "--typical-p <x>",
      `choose among the most typical tokens that together have probability x ${or(samplingDefaults.typicalP)}`,
      number(smallestFloat, 1),
    )
    .option(
      "--repetition-penalty <x>",
      `make tokens that occurred before less likely; 1 turns this off ${or(samplingDefaults.repetitionPenalty)}`,
      number(smallestFloat),
    )
    .option(
      "--presence-penalty <x>",
      "subtract x from the logits of tokens that were generated before (default: 0)",
      number(-largestFloat),
    )
    .option(
      "--frequency-penalty <x>",
      "subtract x from the logit of a token for each time that it was generated before (default: 0)",
      number(-largestFloat),
    )
    .option("--seed <n>", "the same seed gives the same text (default: a random seed)", integer(0));
}

/** Runs `heed generate`: prints a text while it is generated. */
async function run(argument: string | undefined, flags: GenerateFlags): Promise<void> {
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
  const given = words === "-" ? withoutMark(await read(process.stdin)) : words;
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
