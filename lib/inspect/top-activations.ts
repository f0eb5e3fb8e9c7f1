import { noGrad } from "../core/autograd.js";
import { checkArray, checkInteger, checkObject } from "../util/check.js";
import { HeedError } from "../util/errors.js";
import { topk } from "../ops/choose.js";
import { contiguous, transpose } from "../ops/views.js";
import { scope } from "../core/scope.js";
import type { FloatTensor } from "../core/tensor.js";
import { type ActivationBatch, activationsOf, type CorpusBatch } from "./corpus.js";
import { type CorpusOptions, rowsAt, type StackHookName, type TokenSequences } from "./corpus.js";
import type { InspectedStack } from "./hook-names.js";

/** Options of `topActivations`. */
export interface TopActivationsOptions extends CorpusOptions {
  /** Value that has the units, such as `blocks.3.mlp.hook_post` for neurons. */
  name: StackHookName;
  /** Indices of the units. @default all */
  units?: readonly number[];
  /** Number of activations that are kept for each unit. @default 10 */
  k?: number;
  /** Number of tokens that are kept on each side of an activation. @default 16 */
  context?: number;
}

/** Token at which a unit is active, in its context. */
export interface TopActivation {
  /** Activation. */
  value: number;
  /** Index of the sequence in the corpus. */
  sequence: number;
  /** Position of the token in the sequence. */
  position: number;
  /** The token. */
  token: number;
  /** Tokens around it. */
  context: Int32Array;
  /** Index of the token in `context`. */
  at: number;
}

/**
 * Resolves to the largest activations of each unit over a corpus, in descending order; of equal ones the earlier comes
 * first. The corpus is streamed: memory holds one batch and the activations that are kept, however long it is.
 *
 * @example
 * const corpus = ["the whale", "the sea"].map((text) => tokenizer.encode(text));
 * const options = { name: "blocks.0.mlp.hook_post", units: [3, 7], k: 2 } as const;
 * const [third] = await topActivations(gpt, corpus, options);
 * console.log(third![0]!.value, tokenizer.decode(third![0]!.context));
 *
 * @throws ERR_RANGE if there is no such unit, or an option is out of range; ERR_ARGUMENT if the value is not one of
 *   tokens; the errors of `run`.
 */
export async function topActivations(
  model: InspectedStack,
  corpus: TokenSequences,
  options: TopActivationsOptions,
): Promise<TopActivation[][]> {
  const op = "topActivations";
  checkObject(op, "options", options);
  const { name, batch, ...kept } = options;
  const collector = new TopCollector(op, kept);
  for await (const part of activationsOf(op, model, corpus, { names: [name], batch }))
    await collector.add(part, part.rows.get(name)!);
  return collector.result();
}

/** Keeps the largest activations of units, batch after batch. */
export class TopCollector {
  readonly #op: string;
  readonly #units: readonly number[] | null;
  readonly #k: number;
  readonly #context: number;
  #top: TopActivation[][] | null = null;

  constructor(op: string, { units, k = 10, context = 16 }: Omit<TopActivationsOptions, "name" | "batch">) {
    checkInteger(op, "k", k, 1);
    checkInteger(op, "context", context, 0);
    if (units) checkArray(op, "units", units);
    this.#op = op;
    this.#units = units ?? null;
    this.#k = k;
    this.#context = context;
  }

  /** Adds a batch with its activations f32 [N, U]. */
  async add(batch: CorpusBatch | ActivationBatch<string>, rows: FloatTensor): Promise<void> {
    const [count, width] = rows.shape as [number, number];
    const units = this.#units;
    for (const [i, unit] of (units ?? []).entries()) checkInteger(this.#op, `units[${i}]`, unit, 0, width - 1);
    const reads = noGrad(() =>
      scope(() => {
        const columns = contiguous(transpose(rows)); // [U, N]
        const { values, ids } = topk(units ? rowsAt(columns, units) : columns, Math.min(this.#k, count));
        return { values: values.data(), ids: ids.data(), each: values.shape[1]! };
      }),
    );
    const [values, ids] = await Promise.all([reads.values, reads.ids]);
    const top = (this.#top ??= Array.from({ length: units?.length ?? width }, () => []));
    const places = placesOf(batch);
    for (const [unit, old] of top.entries()) {
      const found: TopActivation[] = [];
      for (let i = unit * reads.each; i < (unit + 1) * reads.each; i++) {
        if (old.length === this.#k && !(values[i]! > old.at(-1)!.value)) break;
        found.push(activationAt(values[i]!, places(ids[i]!), this.#context));
      }
      // Sorting is stable, so that the earlier of equal activations stays first.
      if (found.length > 0) top[unit] = [...old, ...found].sort((a, b) => b.value - a.value).slice(0, this.#k);
    }
  }

  /**
   * Returns the activations that were kept, by unit.
   *
   * @throws ERR_ARGUMENT if nothing was added.
   */
  result(): TopActivation[][] {
    if (!this.#top)
      throw new HeedError("ERR_ARGUMENT", `${this.#op}: expected a corpus with sequences, got an empty one`);
    return this.#top;
  }
}

/** Place of a row of a batch. */
interface Place {
  tokens: ArrayLike<number>;
  sequence: number;
  position: number;
}

/** Returns the function from the index of a row to its place. */
function placesOf({ sequences, first }: CorpusBatch): (row: number) => Place {
  const starts = [0];
  for (const { length } of sequences) starts.push(starts.at(-1)! + length);
  return (row) => {
    const i = starts.findLastIndex((start) => start <= row);
    return { tokens: sequences[i]!, sequence: first + i, position: row - starts[i]! };
  };
}

function activationAt(value: number, { tokens, sequence, position }: Place, around: number): TopActivation {
  const from = Math.max(0, position - around);
  const context = Int32Array.from(Array.prototype.slice.call(tokens, from, position + around + 1) as number[]);
  return { value, sequence, position, token: tokens[position]!, context, at: position - from };
}
