import { setThreads } from "../core/device.js";
import { linesOf } from "../util/lines.js";
import { HeedError } from "../util/errors.js";
import { DivergedError } from "../generate/diverged.js";
import type { TranslateOptions } from "../generate/translate.js";
import { load } from "../load/load.js";
import type { Translation, Translator } from "../load/translator.js";
import { UsageError } from "./failure.js";
import { print } from "./output.js";
import type { TranslateFlags } from "./translate-flags.js";

/**
 * Runs `heed translate`: prints one translation per text, batch by batch. For a text on which the model diverges it
 * prints an empty line, and the error at the end names the first such text.
 */
export async function run(texts: readonly string[], flags: TranslateFlags): Promise<void> {
  const { model: name, beam, nBest, threads, device, dtype, batchSize, ...search } = flags;
  if (nBest > beam) throw new UsageError(`--n-best: expected at most the value of --beam (${beam}), got ${nBest}`);
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
