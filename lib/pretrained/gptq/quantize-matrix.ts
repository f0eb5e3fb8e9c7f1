// Quantises a weight with scales by search and, if the second moments of its inputs are known, by GPTQ. The order of the
// inputs is that of memory. Products with many weights run on the device, and the choices on the host, in turns.
import { noGrad } from "../../core/autograd.js";
import { zeros } from "../../core/creation.js";
import { matmul } from "../../ops/matmul.js";
import type { QuantizedTensors, QuantizeOptions } from "../../ops/quantize.js";
import { narrow, transposed } from "../../ops/views.js";
import { scope } from "../../core/scope.js";
import type { FloatTensor } from "../../core/tensor.js";
import { setPart, setPieces } from "../../core/tensor-pieces.js";
import { inPieces, inTurns, type Steps } from "../../util/turns.js";
import { type GroupFeedback, GroupSearch } from "./choose-codes.js";
import { ChosenCodes } from "./chosen-codes.js";
import type { Feedback } from "./feedback.js";

/** Returns the codes of a weight [in, out] on its device. */
export async function quantizeMatrix(
  weight: FloatTensor,
  options: Required<QuantizeOptions>,
  feedback: Feedback | null,
): Promise<QuantizedTensors> {
  const [inputs, outputs] = weight.shape as [number, number];
  const { device } = weight;
  const { groupSize } = options;
  const chosen = new ChosenCodes(inputs, outputs, options);
  const search = new GroupSearch(options.bits);
  using factor = feedback && zeros([inputs, inputs], { device });
  if (factor) await setPieces(factor, inPieces(feedback.factor));
  using errors = feedback && zeros([inputs, outputs], { device });
  for (let first = 0; first < inputs; first += groupSize) {
    const count = Math.min(groupSize, inputs - first);
    using part = narrow(weight, 0, first, count);
    using rows = part.to("f32");
    using shares = factor && errors && first > 0 ? carried(factor, errors, first, count) : null;
    const [values, added] = [await rows.data(), (await shares?.data()) ?? null];
    const within = feedback && groupFeedback(feedback, first, count);
    const left = new Float32Array(count * outputs);
    await inTurns(chooseGroup({ values, added, within, search, chosen, left, group: first / groupSize, count }));
    if (errors) await setPart(errors, first * outputs, left);
  }
  return await chosen.upload(device);
}

/** Returns the shares of earlier inputs' errors that `count` inputs from `first` on make up for, [count, out]. */
function carried(factor: FloatTensor, errors: FloatTensor, first: number, count: number): FloatTensor {
  return noGrad(() =>
    scope(() => {
      const block = narrow(narrow(factor, 0, 0, first), 1, first, count); // [first, count]
      return matmul(transposed(block), narrow(errors, 0, 0, first));
    }),
  );
}

function groupFeedback({ inputs, factor, weights }: Feedback, first: number, count: number): GroupFeedback {
  const block = new Float64Array(count * count);
  for (let j = 0; j < count; j++)
    for (let k = 0; k < j; k++) block[j * count + k] = factor[(first + k) * inputs + first + j]!;
  return { factor: block, weights: weights.subarray(first, first + count) };
}

interface Group {
  /** Numbers of the weight, [count, out]. */
  values: Float32Array;
  /** Shares of the errors of earlier groups that they make up for, [count, out]; null means none. */
  added: Float32Array | null;
  within: GroupFeedback | null;
  search: GroupSearch;
  chosen: ChosenCodes;
  /** Set to the errors, [count, out]. */
  left: Float32Array;
  group: number;
  count: number;
}

function* chooseGroup({ values, added, within, search, chosen, left, group, count }: Group): Steps<void> {
  const { outputs } = chosen;
  const weights = new Float64Array(count);
  const shares = added && new Float64Array(count);
  for (let n = 0; n < outputs; n++) {
    for (let k = 0; k < count; k++) {
      weights[k] = values[k * outputs + n]!;
      if (shares) shares[k] = added[k * outputs + n]!;
    }
    const { scale, codes } = search.run(weights, shares, count, within);
    chosen.set(n, group, codes, scale);
    for (let k = 0; k < count; k++) left[k * outputs + n] = weights[k]! - codes[k]! * scale;
    yield;
  }
}
