import { Command, Option } from "commander";
import { largestFloat, smallestFloat } from "../util/check.js";
import { integer, number, repeatable, text } from "./arguments.js";
import { type GenerateFlags, samplingDefaults } from "./generate-flags.js";
import { inferenceOptions } from "./inference-options.js";

export function generateCommand(): Command {
  const command = new Command("generate")
    .description("Continue a text with a trained model and print it as it is generated.")
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
    .action(async (prompt: string | undefined, flags: GenerateFlags) =>
      (await import("./generate.js")).run(prompt, flags),
    );
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
