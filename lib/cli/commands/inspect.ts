import type { Command } from "commander";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { text as read } from "node:stream/consumers";
import { tensor } from "../../core/creation.js";
import { setThreads } from "../../core/device.js";
import { inspectionPage, type InspectionPageOptions } from "../../inspect/index.js";
import { load, type ModelKinds } from "../../load/load.js";
import type { Translator } from "../../load/translator.js";
import { HuggingFaceTokenizer } from "../../tokenizer/huggingface-tokenizer.js";
import { encodeText, type Tokenizer } from "../../tokenizer/tokenizer.js";
import { HeedError } from "../../util/errors.js";
import { integer, text } from "../arguments.js";
import { createBar } from "../bar.js";
import { UsageError, usageOf } from "../failure.js";
import { type InferenceFlags, inferenceOptions } from "../inference-options.js";
import { print } from "../output.js";

/** The flags of `heed inspect`. */
interface InspectFlags extends InferenceFlags {
  model: string;
  out: string;
  ablations: boolean;
  neurons: number;
  maxTokens: number;
}

/** Adds the arguments and the options of `heed inspect`. */
export function define(command: Command): Command {
  return command
    .argument("<text>", 'the text; "-" reads it from stdin')
    .requiredOption(
      "--model <name>",
      "a run's folder, a folder in Hugging Face's or CTranslate2's format, a .gguf file, a llama2.c .bin file, or a model on the hub: owner/name",
      text,
    )
    .requiredOption("--out <file>", "the page to write; it is one HTML file that needs no network", text)
    .option("--max-tokens <n>", "show at most the first n tokens of the text", integer(1), 512)
    .option("--neurons <n>", "number of neurons of each layer to show, the most active ones", integer(0, 4096), 32)
    .option("--no-ablations", "leave out what changes without each part, which takes a pass of the model per part")
    .addOption(inferenceOptions.dtype)
    .addOption(inferenceOptions.device)
    .addOption(inferenceOptions.threads)
    .addHelpText(
      "after",
      `
Examples:
  $ heed inspect --model runs/book --out page.html "Call me Ishmael."
  $ heed inspect --model openai-community/gpt2 --no-ablations --out page.html - < text.txt`,
    )
    .action(run);
}

type Options = Omit<InspectionPageOptions, "textOf">;

/** Runs `heed inspect`: writes a page about a text. */
async function run(argument: string, flags: InspectFlags): Promise<void> {
  const { model: name, out, threads, device, dtype, maxTokens, ablations, neurons } = flags;
  if (threads !== undefined) setThreads(threads);
  const words = argument === "-" ? await read(process.stdin) : argument;
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
