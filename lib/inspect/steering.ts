import { noGrad } from "../core/autograd.js";
import { checkInteger, checkObject } from "../util/check.js";
import { tensor } from "../core/creation.js";
import { HeedError } from "../util/errors.js";
import type { FloatTensor } from "../core/tensor.js";
import { meanActivations } from "./ablation.js";
import { activationsOf, type CorpusOptions, rowsAt, type StackHookName, type TokenSequences } from "./corpus.js";
import type { InspectedStack } from "./hook-names.js";

/** Options of `steeringVector`. */
export interface SteeringOptions extends CorpusOptions {
  /** Value that the vector is for, such as `blocks.6.hook_resid_pre`. */
  name: StackHookName;
  /** Texts that have what the vector stands for. */
  positive: TokenSequences;
  /** Texts that lack it or have its opposite. */
  negative: TokenSequences;
  /** Position in each text that counts, which may count from the end; null for all positions. @default -1 */
  position?: number | null;
}

/**
 * Resolves to the difference between the means of a value over two sets of texts, f32 [D]. Added to the value with
 * `addTo`, it moves the model towards the first set: `withHooks` does so in generation. Dispose it.
 *
 * @example
 * const name = "blocks.1.hook_resid_pre";
 * const [positive, negative] = [[tokenizer.encode("love")], [tokenizer.encode("hate")]];
 * const vector = await steeringVector(gpt, { name, positive, negative });
 * const steered = withHooks(gpt, { [name]: addTo(mul(vector, 4)) });
 * const { text } = await generate(steered, tokenizer, "I", { maxTokens: 5 });
 *
 * @throws ERR_ARGUMENT if a set of texts is empty; ERR_RANGE if a text lacks the position; the errors of `run`.
 * @see Turner et al. 2023, "Steering Language Models With Activation Engineering", arXiv:2308.10248; Panickssery et al.
 *   2023, arXiv:2312.06681.
 */
export async function steeringVector(model: InspectedStack, options: SteeringOptions): Promise<FloatTensor> {
  const op = "steeringVector";
  checkObject(op, "options", options);
  const { name, positive, negative, position = -1, batch } = options;
  if (position !== null) checkInteger(op, "position", position, -Number.MAX_SAFE_INTEGER);
  const means: Float64Array[] = [];
  for (const texts of [positive, negative])
    means.push(
      position === null
        ? await meanOfAll(model, texts, name, batch)
        : await meanAt(op, model, texts, { name, position, batch }),
    );
  const [with_, without] = means as [Float64Array, Float64Array];
  return tensor(
    with_.map((x, i) => x - without[i]!),
    [with_.length],
    { device: model.device },
  );
}

async function meanOfAll(
  model: InspectedStack,
  texts: TokenSequences,
  name: StackHookName,
  batch = 8,
): Promise<Float64Array> {
  using means = await meanActivations(model, texts, { names: [name], batch });
  return Float64Array.from(await means.get(name).data());
}

/** Resolves to the mean of a value at one position of each text. */
async function meanAt(
  op: string,
  model: InspectedStack,
  texts: TokenSequences,
  { name, position, batch }: { name: StackHookName; position: number; batch: number | undefined },
): Promise<Float64Array> {
  let total: Float64Array | null = null;
  let count = 0;
  for await (const { rows, sequences, first } of activationsOf(op, model, texts, { names: [name], batch })) {
    let start = 0;
    const places = sequences.map(({ length }, i) => {
      checkInteger(op, `position in text ${first + i}`, position, -length, length - 1);
      const place = start + (position < 0 ? position + length : position);
      start += length;
      return place;
    });
    using chosen = noGrad(() => rowsAt(rows.get(name)!, places));
    const values = await chosen.data();
    const width = chosen.shape[1]!;
    total ??= new Float64Array(width);
    for (const [i, x] of values.entries()) total[i % width]! += x;
    count += places.length;
  }
  if (!total) throw new HeedError("ERR_ARGUMENT", `${op}: expected texts, got none`);
  return total.map((x) => x / count);
}
