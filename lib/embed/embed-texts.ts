import { noGrad } from "../autograd.js";
import { checkArray, checkInteger, checkObject } from "../check.js";
import { describe, HeedError } from "../errors.js";
import { Bert } from "../models/bert.js";
import { checkPooling, pool, type Pooling } from "../nn/pooling.js";
import { l2Normalize } from "../ops/l2-normalize.js";
import { keep, scope } from "../scope.js";
import { tensor } from "../creation.js";
import type { FloatTensor } from "../tensor.js";
import { Turns } from "../turns.js";

/** How a text becomes a vector. */
export interface EmbeddingRecipe {
  /** "mean" unless given. */
  pooling?: Pooling;
  /** Whether vectors have length 1, so that dot products are cosines; false unless given. */
  normalize?: boolean;
  /** Longer texts are cut to so many tokens, special ones included; the model's context length unless given. */
  maxLength?: number;
  /** Whether texts are lower-cased first, whatever the tokenizer does; false unless given. */
  lowercase?: boolean;
}

export interface EmbedTextsOptions extends EmbeddingRecipe {
  /** Texts in a pass; 32 unless given. */
  batchSize?: number;
  signal?: AbortSignal | undefined;
}

/** What is asked of a tokenizer. */
export interface EmbeddingTokenizer {
  encode(text: string, options?: { maxLength?: number }): Int32Array;
  /** Used where it is there, so that a long text does not hold up the event loop. */
  encodeAsync?(text: string, options?: { maxLength?: number }): Promise<Int32Array>;
}

/**
 * A vector for each text, in their order. Texts of like length go through the model together, so that little of a batch
 * is padding. `recipe` of `loadPretrained` is how a published model wants its texts: `{ ...recipe, batchSize: 64 }`.
 */
export async function embedTexts(
  model: Bert,
  tokenizer: EmbeddingTokenizer,
  texts: readonly string[],
  options: EmbedTextsOptions = {},
): Promise<Float32Array[]> {
  const op = "embedTexts";
  if (!(model instanceof Bert))
    throw new HeedError("ERR_ARGUMENT", `${op}: expected model to be a Bert, got ${describe(model)}`);
  if (typeof (tokenizer as EmbeddingTokenizer | null)?.encode !== "function")
    throw new HeedError("ERR_ARGUMENT", `${op}: expected a tokenizer, got ${describe(tokenizer)}`);
  checkArray(op, "texts", texts);
  checkObject(op, "options", options);
  const { contextLength } = model.config;
  const { pooling = "mean", normalize = false, batchSize = 32, lowercase = false, signal } = options;
  const { maxLength = contextLength } = options;
  checkPooling(op, pooling);
  checkInteger(op, "batchSize", batchSize, 1);
  checkInteger(op, "maxLength", maxLength, 1, contextLength);
  signal?.throwIfAborted();

  const turns = new Turns();
  const tokens: Int32Array[] = [];
  for (const [i, text] of texts.entries()) {
    if (typeof text !== "string")
      throw new HeedError("ERR_ARGUMENT", `${op}: expected texts[${i}] to be a string, got ${describe(text)}`);
    const given = lowercase ? text.toLowerCase() : text;
    const encoded = tokenizer.encodeAsync?.(given, { maxLength }) ?? tokenizer.encode(given, { maxLength });
    const ids = (await encoded).subarray(0, maxLength);
    if (ids.length === 0)
      throw new HeedError("ERR_ARGUMENT", `${op}: expected at least one token in texts[${i}], got none`);
    tokens.push(ids);
    await turns.pause();
  }
  const order = [...tokens.keys()].sort((a, b) => tokens[b]!.length - tokens[a]!.length);
  const vectors = new Array<Float32Array>(texts.length);
  // One batch is under way while the one before is read.
  let reading: Promise<void> = Promise.resolve();
  for (let at = 0; at < order.length; at += batchSize) {
    const members = order.slice(at, at + batchSize);
    const batch = vectorsOf(
      model,
      members.map((i) => tokens[i]!),
      pooling,
      normalize,
    );
    const read = batch.data().then((data) => {
      const width = data.length / members.length;
      for (const [row, i] of members.entries()) vectors[i] = data.slice(row * width, (row + 1) * width);
    });
    batch.dispose();
    read.catch(() => undefined);
    await reading;
    signal?.throwIfAborted();
    reading = read;
  }
  await reading;
  return vectors;
}

/** The vectors of sequences, the longest of which is first: [B, C], the caller's to dispose. */
function vectorsOf(model: Bert, sequences: Int32Array[], pooling: Pooling, normalize: boolean): FloatTensor {
  const { device, training } = model;
  const [batch, length] = [sequences.length, sequences[0]!.length];
  const lengths = Int32Array.from(sequences, (ids) => ids.length);
  const ids = new Int32Array(batch * length);
  for (const [b, sequence] of sequences.entries()) ids.set(sequence, b * length);
  if (training) model.eval();
  try {
    const vectors = noGrad(() =>
      scope(() => {
        const keyLengths = tensor(lengths, [batch], { device });
        const states = model.forward(tensor(ids, [batch, length], { device }), { keyLengths });
        const pooled = pool(states, lengths, pooling);
        return normalize ? l2Normalize(pooled) : pooled;
      }),
    );
    return keep(vectors);
  } finally {
    if (training) model.train();
  }
}
