import { noGrad } from "../core/autograd.js";
import { checkObject } from "../util/check.js";
import { HeedError } from "../util/errors.js";
import { ops } from "../core/native.js";
import { narrow } from "../ops/views.js";
import { keep, scope } from "../core/scope.js";
import { allocate, type FloatTensor } from "../core/tensor.js";
import { activationsOf, type CorpusOptions, type StackHookName, type TokenSequences } from "./corpus.js";
import type { InspectedStack } from "./hook-names.js";

/** Options of `collectActivations`. */
export interface CollectOptions extends CorpusOptions {
  /** Value that is collected. */
  name: StackHookName;
}

/** Activations of a corpus, with a row for each token. */
export interface CollectedActivations {
  /** Activations f32 [N, D]; dispose them. D is the number of elements that a token has. */
  rows: FloatTensor;
  /** Token of each row. */
  tokens: Int32Array;
  /** Position of each row's token in its sequence. */
  positions: Int32Array;
  /** Index of each row's sequence in the corpus. */
  sequences: Int32Array;
}

/**
 * Resolves to a value of all tokens of a corpus, such as the data of a probe. They are all in memory at once.
 *
 * @example
 * const corpus = ["the whale", "the sea"].map((text) => tokenizer.encode(text));
 * const { rows, tokens } = await collectActivations(gpt, corpus, { name: "blocks.1.hook_resid_pre" });
 * rows.shape; // [16, 16]: 16 tokens and the width of the model
 *
 * @throws ERR_ARGUMENT if the corpus is empty, or the value is not one of tokens; the errors of `run`.
 */
export async function collectActivations(
  model: InspectedStack,
  corpus: TokenSequences,
  options: CollectOptions,
): Promise<CollectedActivations> {
  const op = "collectActivations";
  checkObject(op, "options", options);
  const { name, batch } = options;
  const parts: FloatTensor[] = [];
  const [tokens, positions, indices]: [number[], number[], number[]] = [[], [], []];
  try {
    for await (const { rows, sequences, first } of activationsOf(op, model, corpus, { names: [name], batch })) {
      parts.push(rows.get(name)!.alias());
      for (const [i, sequence] of sequences.entries())
        for (let t = 0; t < sequence.length; t++) {
          tokens.push(sequence[t]!);
          positions.push(t);
          indices.push(first + i);
        }
    }
    if (parts.length === 0)
      throw new HeedError("ERR_ARGUMENT", `${op}: expected a corpus with sequences, got an empty one`);
    const [tokenList, positionList, sequenceList] = [tokens, positions, indices].map((list) => Int32Array.from(list));
    return { rows: joined(parts), tokens: tokenList!, positions: positionList!, sequences: sequenceList! };
  } finally {
    for (const part of parts) part.dispose();
  }
}

/** Returns matrices of the same width one below the other, in no scope. */
export function joined(parts: readonly FloatTensor[]): FloatTensor {
  const { device } = parts[0]!;
  const rows = parts.reduce((sum, part) => sum + part.shape[0]!, 0);
  return noGrad(() =>
    scope(() => {
      const out: FloatTensor = keep(allocate([rows, parts[0]!.shape[1]!], "f32", device));
      let start = 0;
      for (const part of parts) {
        const count = part.shape[0]!;
        ops.copy({ out: narrow(out, 0, start, count), inp: part });
        start += count;
      }
      return out;
    }),
  );
}
