import { Command, Option } from "commander";
import { smallestFloat } from "../check.js";
import { integer, number, repeatable, text } from "./arguments.js";
import { type GenerateFlags, samplingDefaults } from "./generate-flags.js";
import { inferenceOptions } from "./inference-options.js";

export function generateCommand(): Command {
  const or = (value: number): string => `(default: the model's own, or ${value})`;
  return new Command("generate")
    .description("Continue a text with a trained model, as it is generated.")
    .argument("[prompt]", 'the text to continue; "-" reads it from stdin')
    .requiredOption(
      "--model <name>",
      "a run's folder, a folder in Hugging Face's format, a .gguf file, a llama2.c .bin file, or of the hub owner/name or hf:owner/name/file.gguf",
      text,
    )
    .option("--prompt <text>", "the same as the argument")
    .option("--chat", "the prompt is a message, and the text the model's answer, by its chat template")
    .option("--system <text>", "with --chat: what the model is told before")
    .option("--max-tokens <n>", "the most tokens to generate", integer(1), 256)
    .option(
      "--temperature <x>",
      `how freely to choose; 0 takes the likeliest token ${or(samplingDefaults.temperature)}`,
      number(0),
    )
    .option("--top-k <n>", `only the n likeliest tokens; 0 is off ${or(samplingDefaults.topK)}`, integer(0))
    .option(
      "--top-p <x>",
      `only the likeliest tokens that together have probability x ${or(samplingDefaults.topP)}`,
      number(smallestFloat, 1),
    )
    .option(
      "--min-p <x>",
      `only tokens at least x times as likely as the likeliest ${or(samplingDefaults.minP)}`,
      number(0, 1),
    )
    .option(
      "--repetition-penalty <x>",
      `make tokens that came before less likely; 1 is off ${or(samplingDefaults.repetitionPenalty)}`,
      number(smallestFloat),
    )
    .option("--seed <n>", "the same seed gives the same text; a random one unless given", integer(0))
    .option("--stop <text>", "end before this text; may be given several times", repeatable)
    .addOption(
      new Option("--overflow <what>", "a text that outgrows the context is an error or ends, or slide drops its start")
        .choices(["error", "slide"])
        .default("error"),
    )
    .option("--no-echo", "print what follows the prompt, without the prompt")
    .addOption(inferenceOptions.dtype)
    .addOption(inferenceOptions.quantize)
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
    .action(async (prompt: string | undefined, flags: GenerateFlags) =>
      (await import("./generate.js")).run(prompt, flags),
    );
}
