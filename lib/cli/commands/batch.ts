import type { Command } from "commander";
import { type BatchLock, lockBatch } from "../../server/batch-output.js";
import { runBatch } from "../../server/batch.js";
import { HeedError } from "../../util/errors.js";
import { integer, repeatable } from "../arguments.js";
import { UsageError } from "../failure.js";
import { type EngineFlags, engineOptions, inferenceOptions } from "../inference-options.js";
import { Interrupt, interrupted } from "../interrupt.js";
import { complain } from "../output.js";
import { loadServed, type ServedFlags, servedNames } from "../named-models.js";

/** The flags of `heed batch`. */
interface BatchFlags extends ServedFlags, EngineFlags {
  concurrency: number;
  rawControlTokens?: boolean;
}

/** Adds the arguments and the options of `heed batch`. */
export function define(command: Command): Command {
  return command
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
    .action(run);
}

/** Runs `heed batch`. */
async function run(input: string, output: string, flags: BatchFlags): Promise<void> {
  const names = servedNames(flags);
  using interrupt = new Interrupt(() => complain("Stopping. Run the same command again to continue."));
  const { signal } = interrupt;
  try {
    await using lock = await locked(() => lockBatch(input, output));
    const models = await loadServed(names, flags);
    try {
      const { concurrency, rawControlTokens = false } = flags;
      const engine = engineOptions(flags);
      const options = { models, engine, concurrency, rawControlTokens, signal, lock };
      const { total, earlier, failed } = await runBatch(input, output, options);
      const before = earlier > 0 ? `, ${earlier} of them by an earlier run` : "";
      complain(`${total} requests answered${before}; ${failed} failed`);
    } finally {
      for (const model of Object.values(models)) model.dispose();
    }
  } catch (error) {
    if (!signal.aborted) throw error;
    process.exitCode = interrupted;
  }
}

/** Locks the output before models are loaded, which takes long. */
async function locked(lock: () => Promise<BatchLock>): Promise<BatchLock> {
  try {
    return await lock();
  } catch (cause) {
    if (cause instanceof HeedError && cause.code === "ERR_ARGUMENT") throw new UsageError(cause.message, { cause });
    throw cause;
  }
}
