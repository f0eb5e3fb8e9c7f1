import { type Command, Option } from "commander";
import type { DataKind } from "../../data/records.js";
import type { DataStatistics } from "../../data/shard-index.js";
import { TokenShards } from "../../data/token-shards.js";
import { type DataProgress, writeShards } from "../../data/write-shards.js";
import { loadTokenizer } from "../../pretrained/load-tokenizer.js";
import { ByteTokenizer } from "../../tokenizer/byte-tokenizer.js";
import { Gpt2Tokenizer } from "../../tokenizer/gpt2-tokenizer.js";
import type { Tokenizer } from "../../tokenizer/tokenizer.js";
import { integer, text } from "../arguments.js";
import { UsageError, usageOf } from "../failure.js";
import { Interrupt, interrupted } from "../interrupt.js";
import { complain, print } from "../output.js";

/** The flags of `heed data`. */
interface DataFlags {
  out?: string;
  tokenizer: string;
  kind?: DataKind;
  separator?: string;
  textColumn: string;
  threads?: number;
  shardTokens?: number;
  maxBad: number;
  revision?: string;
  show?: number;
}

/** Adds the arguments and the options of `heed data`. */
export function define(command: Command): Command {
  return command
    .argument(
      "<inputs...>",
      "files, folders, patterns or data sets of the hub (owner/name): .txt, .jsonl, .csv and .parquet, also with .gz or .zst; without --out one folder of shards",
    )
    .option("--out <folder>", "folder for the shards", text)
    .option(
      "--tokenizer <name>",
      "gpt2, byte, or a model whose tokenizer is used, as for heed generate --model",
      text,
      "gpt2",
    )
    .addOption(
      new Option(
        "--kind <kind>",
        "texts, examples of which only the answers count, or pairs of answers (default: what the first record is)",
      ).choices(["text", "examples", "preference"]),
    )
    .option(
      "--separator <text>",
      "text between the documents of a text file, such as '\\n' (default: a text file is one document)",
      text,
    )
    .option("--text-column <name>", "field or column with texts", text, "text")
    .option("--threads <n>", "threads that encode (default: the number of CPU cores)", integer(1, 1024))
    .option("--shard-tokens <n>", "tokens after which a new shard begins (default: 67108864)", integer(1, 2 ** 30))
    .option("--max-bad <n>", "malformed lines that are reported and left out; one more ends the run", integer(0), 0)
    .option("--revision <name>", "branch, tag or commit of data sets of the hub (default: main)", text)
    .option("--show <n>", "show the document with this number, counted from 0; only without --out", integer(0))
    .addHelpText(
      "after",
      `
Examples:
  $ heed data 'books/*.txt.gz' --out books
  $ heed data roneneldan/TinyStories --tokenizer Qwen/Qwen3-0.6B --out stories
  $ heed data chats.jsonl --tokenizer Qwen/Qwen3-0.6B --out chats
  $ heed data books --show 3`,
    )
    .action(run);
}

/** Number of malformed lines that are shown. */
const mostShown = 100;
/** Milliseconds between two lines about the progress. */
const interval = 5000;

/** Runs `heed data`. */
export async function run(inputs: readonly string[], flags: DataFlags): Promise<void> {
  if (flags.out === undefined) await show(inputs, flags);
  else await write(inputs, { ...flags, out: flags.out });
}

async function write(inputs: readonly string[], flags: DataFlags & { out: string }): Promise<void> {
  const { out, kind, textColumn, threads, shardTokens, maxBad, revision } = flags;
  if (flags.show !== undefined) throw new UsageError("--show: works only without --out, on a folder of shards");
  using interrupt = new Interrupt(() => complain("Stopping. Run the same command again to continue."));
  const { signal } = interrupt;
  let shown = 0;
  try {
    const statistics = await writeShards(inputs, {
      ...{ out, kind, textColumn, threads, shardTokens, signal, maxBadLines: maxBad },
      separator: flags.separator === undefined ? null : unescaped(flags.separator),
      tokenizer: await tokenizerOf(flags.tokenizer),
      hub: { signal, ...(revision !== undefined && { revision }) },
      onProgress: teller(),
      onBadLine({ file, line, message }) {
        if (++shown <= mostShown) complain(`${file}:${line}: ${message}`);
        else if (shown === mostShown + 1) complain("further bad lines are not shown");
      },
    }).catch((cause: unknown) => {
      throw usageOf(cause);
    });
    await print(`${summary(statistics)}\nsaved in ${out}; try: heed train --data ${out} --out run\n`);
  } catch (error) {
    if (!signal.aborted) throw error;
    process.exitCode = interrupted;
  }
}

/** Shows the numbers of a folder of shards, or one of its documents. */
async function show(inputs: readonly string[], flags: DataFlags): Promise<void> {
  const [folder, ...others] = inputs;
  if (others.length > 0) throw new UsageError("required option '--out <folder>' not specified");
  using shards = openShown(folder!);
  if (flags.show === undefined) {
    await print(`${summary(shards.statistics)}\n`);
    return;
  }
  if (flags.show >= shards.documents)
    throw new UsageError(`--show ${flags.show}: expected a number below ${shards.documents}, that of the documents`);
  const tokenizer = await shards.tokenizer();
  await print(`${tokenizer.decode(shards.document(flags.show).ids)}\n`);
}

function openShown(folder: string): TokenShards {
  try {
    return TokenShards.open(folder);
  } catch (cause) {
    if ((cause as { code?: string }).code !== "ERR_IO") throw cause;
    throw new UsageError(`${folder}: expected --out, or a folder of shards to show, got neither`, { cause });
  }
}

async function tokenizerOf(name: string): Promise<Tokenizer> {
  if (name === "gpt2") return Gpt2Tokenizer.load();
  if (name === "byte") return new ByteTokenizer();
  return loadTokenizer(name);
}

/** Returns a text in which \n, \r and \t stand for the characters. */
function unescaped(text: string): string {
  return text.replace(/\\([nrt\\])/g, (_, letter: string) => ({ n: "\n", r: "\r", t: "\t" })[letter] ?? "\\");
}

/** Returns a function that says now and then how far a run has come. */
function teller(): (progress: DataProgress) => void {
  let said = performance.now();
  return ({ textBytes, tokens, filesDone, files }) => {
    if (performance.now() - said < interval) return;
    said = performance.now();
    const done = `${Math.min(filesDone + 1, files)} of ${files} files`;
    complain(`${(textBytes / 1e6).toFixed(0)} MB of text, ${count(tokens)} tokens, ${done}`);
  };
}

function summary({ documents, tokens, targets, textBytes, longest, badLines, badAnswers }: DataStatistics): string {
  return [
    `${count(documents)} documents`,
    `${count(tokens)} tokens` + (targets === tokens ? "" : ` of which ${count(targets)} count for the loss`),
    `${(textBytes / Math.max(1, tokens)).toFixed(2)} bytes per token`,
    `longest document ${count(longest)} tokens`,
    `${count(badLines)} bad lines left out`,
    ...(badAnswers > 0 ? [`${count(badAnswers)} bad answers (label false) left out`] : []),
  ].join(", ");
}

function count(n: number): string {
  return n.toLocaleString("en");
}
