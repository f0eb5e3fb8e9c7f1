import type { Command } from "commander";
import { setThreads } from "../../core/device.js";
import { DivergedError } from "../../generate/diverged.js";
import type { TranslateOptions } from "../../generate/translate.js";
import { load } from "../../load/load.js";
import type { Translation, Translator } from "../../load/translator.js";
import { HeedError } from "../../util/errors.js";
import { linesOf } from "../../util/lines.js";
import { integer, number, text } from "../arguments.js";
import { UsageError } from "../failure.js";
import { type InferenceFlags, inferenceOptions } from "../inference-options.js";
import { print } from "../output.js";

/** The flags of `heed translate`. */
interface TranslateFlags extends InferenceFlags {
  model: string;
  beams: number;
  nBest: number;
  lengthPenalty: number;
  maxTokens: number;
  batchSize: number;
}

/** Adds the arguments and the options of `heed translate`. */
export function define(command: Command): Command {
  return command
    .argument("[texts...]", "texts to translate (default: the lines of stdin)")
    .requiredOption(
      "--model <folder>",
      "a CTranslate2 folder, a folder in Hugging Face's format (T5, or Marian in safetensors), or a model on the hub (owner/name)",
      text,
    )
    .option("--beams <n>", "number of hypotheses that the search keeps; 1 means greedy search", integer(1), 4)
    .option("--n-best <n>", "print the n best translations, one per line: log-probability, tab, text", integer(1), 1)
    .option(
      "--length-penalty <x>",
      "divide log-probabilities by the length to this power when ranking; 0 turns this off",
      number(-100, 100),
      1,
    )
    .option("--max-tokens <n>", "largest number of tokens in a translation", integer(1), 256)
    .option("--batch-size <n>", "number of texts that are translated together", integer(1), 32)
    .addOption(inferenceOptions.dtype)
    .addOption(inferenceOptions.device)
    .addOption(inferenceOptions.threads)
    .addHelpText(
      "after",
      `
Examples:
  $ heed translate --model google-t5/t5-small "translate English to German: Good morning"
  $ heed translate --model google-t5/t5-small --beams 5 --n-best 5 "translate English to French: Thank you"
  $ heed translate --model my-ctranslate2-folder < names.txt > translated.txt`,
    )
    .action(run);
}

/**
 * Runs `heed translate`: prints one translation per text, batch by batch. For a text on which the model diverges it
 * prints an empty line, and the error at the end names the first such text.
 */
async function run(texts: readonly string[], flags: TranslateFlags): Promise<void> {
  const { model: name, beams: beam, nBest, threads, device, dtype, batchSize, ...search } = flags;
  if (nBest > beam) throw new UsageError(`--n-best: expected at most the value of --beams (${beam}), got ${nBest}`);
  if (threads !== undefined) setThreads(threads);
  using translator = await load(name, { kind: "encoder-decoder", device, ...(dtype && { dtype }) });
  const options = { ...search, beams: beam, nBest, batchSize };
  const diverged: number[] = [];
  let count = 0;
  for await (const batch of batches(texts.length > 0 ? texts : lines(), batchSize))
    for (const found of await translated(translator, batch, options)) {
      count++;
      if (!found) diverged.push(count);
      for (const line of found ?? [""]) await print(`${line}\n`);
    }
  if (diverged.length > 0)
    throw new HeedError(
      "ERR_DIVERGED",
      `the model has diverged on ${diverged.length} of ${count} texts, the first of them text ${diverged[0]}: ` +
        "expected finite logits, got NaN or Infinity",
    );
}

/**
 * Returns the lines to print for each text. An empty text stays empty; null stands for a text on which the model
 * diverged.
 */
async function translated(
  translator: Translator,
  texts: readonly string[],
  options: TranslateOptions,
): Promise<(string[] | null)[]> {
  const found = await translator.translations(texts, options).catch(bestOfOthers);
  return found.map((best, i) => {
    if (!best) return null;
    // An empty text has no probability to show.
    if (options.nBest === 1 || texts[i] === "") return [best[0]!.text];
    return best.map(({ total, text }) => `${total.toFixed(4)}\t${text}`);
  });
}

/** Returns the translations of each text, or null for a text on which the model diverged. */
function bestOfOthers(error: unknown): (Translation[] | null)[] {
  if (!(error instanceof DivergedError)) throw error;
  return (error as DivergedError<Translation[]>).results.map((result) =>
    result.status === "fulfilled" ? result.value : null,
  );
}

async function* lines(): AsyncGenerator<string, void, undefined> {
  for await (const line of linesOf(process.stdin as AsyncIterable<Buffer>, { name: "stdin" }))
    yield line.endsWith("\r") ? line.slice(0, -1) : line;
}

/** Yields the texts in batches of up to `size`. */
async function* batches(texts: Iterable<string> | AsyncIterable<string>, size: number): AsyncGenerator<string[]> {
  let batch: string[] = [];
  for await (const text of texts) {
    batch.push(text);
    if (batch.length < size) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}
