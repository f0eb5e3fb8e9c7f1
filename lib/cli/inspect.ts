import { writeFile } from "node:fs/promises";
import path from "node:path";
import { text } from "node:stream/consumers";
import { tensor } from "../core/creation.js";
import { setThreads } from "../core/device.js";
import { HeedError } from "../util/errors.js";
import { inspectionPage, type InspectionPageOptions } from "../inspect/index.js";
import { load, type ModelKinds } from "../load/load.js";
import type { Translator } from "../load/translator.js";
import { HuggingFaceTokenizer } from "../tokenizer/huggingface-tokenizer.js";
import { encodeText, type Tokenizer } from "../tokenizer/tokenizer.js";
import { createBar } from "./bar.js";
import { UsageError, usageOf } from "./failure.js";
import type { InspectFlags } from "./inspect-flags.js";
import { print } from "./output.js";

type Options = Omit<InspectionPageOptions, "textOf">;

/** Runs `heed inspect`: writes a page about a text. */
export async function run(argument: string, flags: InspectFlags): Promise<void> {
  const { model: name, out, threads, device, dtype, maxTokens, ablations, neurons } = flags;
  if (threads !== undefined) setThreads(threads);
  const words = argument === "-" ? await text(process.stdin) : argument;
  if (words === "") throw new UsageError("text: expected a text that is not empty");
  using model = await load(name, { device, ...(dtype && { dtype }) });
  const bar = createBar("passes");
  const options = { title: path.basename(name), ablations, neurons, onProgress: bar.show };
  let page: string;
  try {
    page = await pageOf(model, words, maxTokens, options);
  } catch (cause) {
    throw usageOf(cause);
  } finally {
    bar.end();
  }
  await writeFile(out, page).catch((cause: unknown) => {
    throw new HeedError("ERR_IO", `cannot write ${out}: ${(cause as Error).message}`, { cause });
  });
  await print(`${out}: ${Math.ceil(page.length / 1024).toLocaleString("en")} KiB\n`);
}

/** Resolves to the page about a text in a model of any kind. */
async function pageOf(
  loaded: ModelKinds[keyof ModelKinds],
  words: string,
  maxTokens: number,
  options: Options,
): Promise<string> {
  if (loaded.kind === "encoder-decoder") return await translationPage(loaded, words, maxTokens, options);
  const { model, tokenizer } = loaded;
  const length = Math.min(
    maxTokens,
    model instanceof Object && "config" in model ? model.config.contextLength : Infinity,
  );
  const tokens = (await encodeText(tokenizer, words)).slice(0, length);
  using ids = tensor(tokens, [1, tokens.length], { device: model.device });
  return await inspectionPage(model, ids, { ...options, textOf: (id) => tokenText(tokenizer, id) });
}

/** Resolves to the page about a text and the model's translation of it. */
async function translationPage(
  loaded: Translator,
  words: string,
  maxTokens: number,
  options: Options,
): Promise<string> {
  const { model } = loaded;
  const source = (await loaded.encode(words)).slice(0, maxTokens);
  const [best] = (await loaded.translations([words], { beams: 1, maxTokens }))[0]!;
  const target = Int32Array.of(model.config.startToken, ...best!.tokens);
  using from = tensor(source, [1, source.length], { device: model.device });
  using to = tensor(target, [1, target.length], { device: model.device });
  const shown = (decode: (tokens: number[]) => string) => (id: number) => decode([id]) || `[${id}]`;
  return await inspectionPage(
    model,
    { source: from, target: to },
    {
      ...options,
      textOf: shown((tokens) => loaded.decode(tokens)),
      sourceTextOf: shown((tokens) => loaded.decodeSource(tokens)),
    },
  );
}

/** Returns the text that a token adds to others, special tokens by their names, or its number if it has no text. */
function tokenText(tokenizer: Tokenizer, id: number): string {
  if (id >= tokenizer.vocabularySize) return `[${id}]`;
  const isPublished = tokenizer instanceof HuggingFaceTokenizer;
  const bytes = tokenizer.bytesOf?.(id, { special: true });
  const own = bytes
    ? Buffer.from(bytes).toString()
    : isPublished
      ? tokenizer.decode([id], { special: true })
      : tokenizer.decode([id]);
  return own || `[${id}]`;
}
