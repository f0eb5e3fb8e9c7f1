import { createInterface } from "node:readline";
import { setThreads } from "../device.js";
import { translate } from "../generate/translate.js";
import { loadTranslator, type Translator } from "../pretrained/load-translator.js";
import { UsageError } from "./failure.js";
import { print } from "./output.js";
import type { TranslateFlags } from "./translate-command.js";

/** Prints a translation a text, batch by batch. */
export async function run(texts: readonly string[], flags: TranslateFlags): Promise<void> {
  const { model: name, beam, nBest, threads, device, dtype, batchSize, ...search } = flags;
  if (nBest > beam) throw new UsageError(`--n-best: expected at most --beam, which is ${beam}, got ${nBest}`);
  if (threads !== undefined) setThreads(threads);
  const translator = await loadTranslator(name, { device, dtype });
  using _ = translator.model;
  const options = { ...search, beams: beam, nBest, batchSize };
  for await (const batch of batches(texts.length > 0 ? texts : lines(), batchSize))
    for (const line of await translated(translator, batch, options)) await print(`${line}\n`);
}

/** The lines to print; an empty text stays empty. */
async function translated(
  { model, encode, decode }: Translator,
  texts: readonly string[],
  options: Parameters<typeof translate>[2] & { nBest: number },
): Promise<string[]> {
  const sources = texts.map(encode);
  const found = await translate(
    model,
    sources.filter(({ length }) => length > 0),
    options,
  );
  return sources.flatMap(({ length }) => {
    if (length === 0) return [""];
    const best = found.shift()!;
    if (options.nBest === 1) return [decode(best[0]!.tokens)];
    return best.map(({ total, tokens }) => `${total.toFixed(4)}\t${decode(tokens)}`);
  });
}

function lines(): AsyncIterable<string> {
  return createInterface({ input: process.stdin, crlfDelay: Infinity });
}

/** Up to `size` at a time. */
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
