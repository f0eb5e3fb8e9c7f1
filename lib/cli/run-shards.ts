// The shards of a training run.
import { createHash } from "node:crypto";
import { mixSequences } from "../data/mix-sequences.js";
import { fittingExamples, shardSequences } from "../data/shard-sequences.js";
import { TokenShards } from "../data/token-shards.js";
import { Gpt2Tokenizer } from "../tokenizer/gpt2-tokenizer.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import type { SequenceSource } from "../data/sequence-source.js";
import { type DataPart, shardParts } from "./data-parts.js";
import type { RunData } from "./encoded-data.js";
import { UsageError, usageOf } from "./failure.js";
import { tellLeftOut } from "./run-records.js";
import { defaults, type RunFlags } from "./train-flags.js";

/**
 * Opens the shards of a run, which stay open until the process ends. `known` is the tokenizer of the run that is resumed,
 * or of the model that is trained further.
 *
 * @throws ERR_IO or ERR_FORMAT if a folder is damaged or incomplete.
 * @throws UsageError if the data does not fit the run.
 */
export async function readShards(
  flags: RunFlags,
  parts: readonly DataPart[],
  known: Tokenizer | null,
  warn: (text: string) => void,
): Promise<RunData<SequenceSource>> {
  const opened = parts.map(({ folder, weight }) => ({ shards: TokenShards.open(folder), weight }));
  const pairs = opened.find(({ shards }) => shards.kind === "preference");
  if (pairs)
    throw new UsageError(
      `--data ${pairs.shards.folder}: expected texts or examples, got pairs of answers; add --preference`,
    );
  const tokenizer = await opened[0]!.shards.tokenizer();
  const validationParts = flags.validation === undefined ? null : shardParts(flags.validation);
  if (flags.validation !== undefined && !validationParts)
    throw new UsageError(`--validation ${flags.validation}: expected a folder of shards, as --data is one`);
  const heldOut = validationParts?.map(({ folder, weight }) => ({ shards: TokenShards.open(folder), weight })) ?? null;
  await checkTokenizers(flags, tokenizer, known, [...opened, ...(heldOut ?? [])]);
  try {
    const sequences = (shards: TokenShards): SequenceSource & { targetsBefore?: (sequence: number) => number } => {
      if (shards.kind === "text")
        return shardSequences(shards, { contextLength: flags.context, separate: flags.documents });
      const examples = fittingExamples(shards, flags.context);
      tellLeftOut(shards.folder, {
        ...flags,
        ...{ all: shards.documents, long: examples.long, empty: examples.empty },
        warn,
      });
      return examples;
    };
    const split = opened.map(({ shards, weight }) => {
      const source = sequences(shards);
      const { train, validation } = splitSequences(source, heldOut ? 0 : flags.validationFraction);
      const targets = source.targetsBefore?.(train.sequences) ?? train.sequences * flags.context;
      return { weight, train, validation, targets };
    });
    const { seed } = flags;
    const train = mixSequences(
      split.map(({ train, weight }) => ({ data: train, weight })),
      { seed },
    );
    const validation = joinSequences(
      heldOut ? heldOut.map(({ shards }) => sequences(shards)) : split.flatMap(({ validation }) => validation ?? []),
    );
    const hashes = opened.map(({ shards, weight }) => [shards.hash, weight ?? null]);
    const hash = createHash("sha256").update(JSON.stringify(hashes)).digest("hex");
    // Conversations were written by the chat template of the data's tokenizer.
    const asText = opened.every(({ shards }) => shards.kind === "text");
    // With weights, an epoch has not every target once.
    const counted = !asText && opened.every(({ weight }) => weight === undefined);
    const targets = counted ? split.reduce((sum, { targets }) => sum + targets, 0) : undefined;
    return { tokenizer: asText ? (known ?? tokenizer) : tokenizer, train, validation, hash, targets };
  } catch (cause) {
    throw usageOf(cause);
  }
}

/**
 * Checks that all shards have the tokens of one tokenizer, which is that of the model.
 *
 * @throws UsageError if they have not.
 */
export async function checkTokenizers(
  flags: RunFlags,
  tokenizer: Tokenizer,
  known: Tokenizer | null,
  opened: readonly { shards: TokenShards }[],
): Promise<void> {
  if (flags.tokenizer !== defaults.tokenizer && !(flags.tokenizer === "gpt2" && tokenizer instanceof Gpt2Tokenizer))
    throw new UsageError("--tokenizer: the shards of --data decide it; leave this flag out");
  for (const { shards } of opened)
    if (!same(tokenizer, await shards.tokenizer()))
      throw new UsageError(`--data ${shards.folder}: expected the tokenizer of the other folders, got another one`);
  if (known && !same(tokenizer, known))
    throw new UsageError(
      `--data ${opened[0]!.shards.folder}: expected data with the model's tokenizer (heed data --tokenizer), got data with another one`,
    );
}

/** Text that tokenizers cut differently. */
const probe = "The Café's 1234 naïve cats — 東京で 💡 don't\n\tstop…  \"OK\"? {x_1: [a+b]}";

/** Returns true if two tokenizers give the same ids. */
function same(a: Tokenizer, b: Tokenizer): boolean {
  if (a.vocabularySize !== b.vocabularySize || a.endOfText !== b.endOfText) return false;
  try {
    return a.encode(probe).join() === b.encode(probe).join();
  } catch {
    // A tokenizer of characters lacks some of these.
    return JSON.stringify(a.toJSON()) === JSON.stringify(b.toJSON());
  }
}

/** Splits off the last share of the sequences for validation. */
function splitSequences(
  source: SequenceSource,
  fraction: number,
): { train: SequenceSource; validation: SequenceSource | null } {
  const border = source.sequences - Math.floor(source.sequences * fraction);
  if (border === source.sequences) return { train: source, validation: null };
  const { contextLength, sequences } = source;
  return {
    train: { contextLength, sequences: border, sequence: (index) => source.sequence(index) },
    validation: { contextLength, sequences: sequences - border, sequence: (index) => source.sequence(border + index) },
  };
}

/** Returns the sequences of all sources, one source after the other; null if there is no source. */
function joinSequences(sources: readonly SequenceSource[]): SequenceSource | null {
  if (sources.length <= 1) return sources[0] ?? null;
  const sequences = sources.reduce((sum, source) => sum + source.sequences, 0);
  return {
    contextLength: sources[0]!.contextLength,
    sequences,
    sequence(index) {
      let rest = index;
      for (const source of sources) {
        if (rest < source.sequences) return source.sequence(rest);
        rest -= source.sequences;
      }
      throw new RangeError(`expected a sequence below ${sequences}, got ${index}`);
    },
  };
}
