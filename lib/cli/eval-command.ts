import { Command } from "commander";
import { integer, repeatable, text } from "./arguments.js";
import type { EvalFlags } from "./eval-flags.js";
import { inferenceOptions } from "./inference-options.js";

export function evalCommand(): Command {
  return new Command("eval")
    .description("Evaluate a model: on tasks in the form of lm-evaluation-harness, and by the perplexity of texts.")
    .argument("[tasks...]", "task files in YAML")
    .requiredOption("--model <name>", "the model, as for heed generate --model", text)
    .option("--adapter <folder>", "an adapter in PEFT's format to add to the model", text)
    .option("--perplexity <file>", "a text to compute the perplexity of; may be given several times", repeatable)
    .option("--context <n>", "with --perplexity: tokens that the model sees (default: the model's context)", integer(1))
    .option(
      "--stride <n>",
      "with --perplexity: slide the context by n tokens (default: cut the text into blocks)",
      integer(1),
    )
    .option("--num-fewshot <n>", "number of examples in each prompt (default: the task's own)", integer(0))
    .option("--limit <n>", "number of documents of each task to evaluate (default: all)", integer(1))
    .option("--seed <n>", "seed of the choice of examples (default: 1234)", integer(0))
    .option(
      "--batch-tokens <n>",
      "largest number of tokens to compute at once (default: by the model's size)",
      integer(1),
    )
    .option("--batch-size <n>", "largest number of texts to compute at the same time", integer(1), 64)
    .option("--json", "print the results as JSON instead of a table")
    .option("--output <file>", "write the results as JSON into a file, too", text)
    .option("--samples <file>", "write each document and the model's answer into a file of JSON lines", text)
    .addOption(inferenceOptions.dtype)
    .addOption(inferenceOptions.quantize)
    .addOption(inferenceOptions.activations)
    .addOption(inferenceOptions.device)
    .addOption(inferenceOptions.threads)
    .addHelpText(
      "after",
      `
Examples:
  $ heed eval tasks/arithmetic.yaml --model runs/book --num-fewshot 3
  $ heed eval --model runs/book --perplexity held-out.txt --stride 64
  $ heed eval tasks/*.yaml --model Qwen/Qwen3-0.6B --limit 100 --output results.json`,
    )
    .action(async (tasks: string[], flags: EvalFlags) => (await import("./eval.js")).run(tasks, flags));
}
