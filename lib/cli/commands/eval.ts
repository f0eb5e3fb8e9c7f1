import type { Command } from "commander";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { setThreads } from "../../core/device.js";
import { evaluateTask, type TaskResult } from "../../evaluation/evaluate-task.js";
import { perplexity, type PerplexityResult } from "../../evaluation/perplexity.js";
import { readTask } from "../../evaluation/task.js";
import type { LanguageModel } from "../../load/language-model.js";
import { load } from "../../load/load.js";
import { FileWriter } from "../../util/file-writer.js";
import { naming, readTextFile } from "../../util/files.js";
import { version } from "../../util/version.js";
import { integer, repeatable, text } from "../arguments.js";
import { UsageError, usageOf } from "../failure.js";
import { type InferenceFlags, inferenceOptions, typeOptions } from "../inference-options.js";
import { print } from "../output.js";
import { table } from "../table.js";

/** The flags of `heed eval`. */
interface EvalFlags extends InferenceFlags {
  model: string;
  adapter?: string;
  perplexity?: string[];
  context?: number;
  stride?: number;
  numFewshot?: number;
  limit?: number;
  seed?: number;
  batchTokens?: number;
  batchSize: number;
  json?: boolean;
  output?: string;
  samples?: string;
}

/** Adds the arguments and the options of `heed eval`. */
export function define(command: Command): Command {
  return command
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
    .action(run);
}

/** Results of `heed eval`, as it writes them in JSON. */
interface Results {
  heed: string;
  model: string;
  tasks: TaskResult[];
  perplexity: ({ file: string } & PerplexityResult)[];
}

/** Runs `heed eval`: evaluates a model and prints the results. */
async function run(files: readonly string[], flags: EvalFlags): Promise<void> {
  const { model: name, adapter, perplexity: texts = [], threads, device } = flags;
  if (files.length === 0 && texts.length === 0)
    throw new UsageError("expected a task file or --perplexity with a text, got neither");
  for (const flag of ["context", "stride"] as const)
    if (flags[flag] !== undefined && texts.length === 0)
      throw new UsageError(`--${flag}: works only with --perplexity`);
  if (threads !== undefined) setThreads(threads);
  // A mistake in a task must not show only after others have taken hours.
  const tasks = await Promise.all(files.map((file) => readTask(file)));
  const contents = await Promise.all(texts.map(readTextFile));
  using model = await load(name, {
    ...{ kind: "causal", device, ...typeOptions(flags) },
    ...(adapter !== undefined && { adapter }),
  });
  using samples = flags.samples === undefined ? null : new FileWriter(flags.samples, "w");
  const results: Results = { heed: version(), model: name, tasks: [], perplexity: [] };
  try {
    for (const task of tasks)
      results.tasks.push(
        await evaluateTask(model, task, {
          ...settingsOf(flags, task.name),
          ...(flags.numFewshot !== undefined && { numFewshot: flags.numFewshot }),
          ...(flags.limit !== undefined && { limit: flags.limit }),
          ...(flags.seed !== undefined && { seed: flags.seed }),
          ...(samples && {
            onSample: (sample) => samples.write(Buffer.from(`${JSON.stringify({ task: task.name, ...sample })}\n`)),
          }),
        }),
      );
    for (const [i, file] of texts.entries())
      results.perplexity.push({ file, ...(await readText(model, contents[i]!, file, flags)) });
  } catch (cause) {
    throw usageOf(cause);
  }
  const json = `${JSON.stringify(results, null, 2)}\n`;
  const { output } = flags;
  if (output !== undefined) await naming(output, () => writeFile(output, json));
  await print(flags.json ? json : tables(results));
}

async function readText(model: LanguageModel, text: string, file: string, flags: EvalFlags): Promise<PerplexityResult> {
  const { context, stride = null } = flags;
  return perplexity(model, text, {
    ...settingsOf(flags, file),
    ...{ stride, ...(context !== undefined && { contextLength: context }) },
  });
}

/** Returns the options of every evaluation. On a terminal, they show how far it is. */
function settingsOf({ batchTokens, batchSize }: EvalFlags, name: string) {
  const { isTTY } = process.stderr;
  const onProgress = (done: number, total: number): void => {
    process.stderr.write(done === total ? "\r\x1b[K" : `\r${name}: ${done} of ${total}`);
  };
  return { batchSize, ...(batchTokens !== undefined && { batchTokens }), ...(isTTY && { onProgress }) };
}

function tables({ tasks, perplexity: texts }: Results): string {
  const parts: string[] = [];
  if (tasks.length > 0) {
    const rows = tasks.flatMap(({ task, documents, numFewshot, metrics }) =>
      metrics.map(({ metric, filter, value, stderr }) => [
        ...[task, filter === null ? metric : `${metric}, ${filter}`, String(documents), String(numFewshot)],
        ...[figure(value), uncertainty(stderr)],
      ]),
    );
    parts.push(table([["task", "metric", "documents", "few-shot", "value", "stderr"], ...rows], 2));
  }
  if (texts.length > 0) {
    const rows = texts.flatMap(({ file, tokens, ...result }) =>
      (
        [
          ["perplexity", result.perplexity, result.perplexityStderr],
          ["bits per byte", result.bitsPerByte, result.bitsPerByteStderr],
          ["loss in nats", result.loss, result.lossStderr],
        ] as const
      ).map(([metric, value, stderr]) => [
        ...[path.basename(file), metric, String(tokens), figure(value), uncertainty(stderr)],
      ]),
    );
    parts.push(table([["text", "metric", "tokens", "value", "stderr"], ...rows], 2));
  }
  return parts.join("\n");
}

function figure(value: number): string {
  return Math.abs(value) >= 1e5 ? value.toExponential(4) : value.toFixed(4);
}

function uncertainty(stderr: number | null): string {
  return stderr === null ? "" : `± ${figure(stderr)}`;
}
