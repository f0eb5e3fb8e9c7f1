import type { DataStatistics } from "../data/shard-index.js";
import { TokenShards } from "../data/token-shards.js";
import { type DataProgress, writeShards } from "../data/write-shards.js";
import { loadTokenizer } from "../pretrained/load-tokenizer.js";
import { ByteTokenizer } from "../tokenizer/byte-tokenizer.js";
import { Gpt2Tokenizer } from "../tokenizer/gpt2-tokenizer.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import type { DataFlags } from "./data-flags.js";
import { UsageError, usageOf } from "./failure.js";
import { Interrupt, interrupted } from "./interrupt.js";
import { complain, print } from "./output.js";

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
