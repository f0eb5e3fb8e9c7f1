import { Command } from "commander";
import { integer, repeatable } from "./arguments.js";
import type { BatchFlags } from "./batch-flags.js";
import { inferenceOptions } from "./inference-options.js";

export function batchCommand(): Command {
  return new Command("batch")
    .description("Answer a file of requests in OpenAI's batch format; a run that was stopped is continued.")
    .argument("<input>", "file with a request on each line, in JSON")
    .argument("<output>", "file to which the answer to each request is appended as a line")
    .requiredOption("--model <name>", "as in heed serve; may be given several times", repeatable)
    .option("--name <name>", "name by which requests choose the model, as in heed serve", repeatable)
    .option("--adapter <name=folder>", "adapter that requests choose as a model, as in heed serve", repeatable)
    .option("--concurrency <n>", "number of requests that run at the same time", integer(1), 64)
    .option("--raw-control-tokens", "let messages and tools name control tokens such as <|im_end|>, as in heed serve")
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
  $ heed batch in.jsonl out.jsonl --model runs/book
  $ heed batch in.jsonl out.jsonl --model Qwen/Qwen3-0.6B --name gpt-4o-mini`,
    )
    .action(async (input: string, output: string, flags: BatchFlags) =>
      (await import("./batch.js")).run(input, output, flags),
    );
}
