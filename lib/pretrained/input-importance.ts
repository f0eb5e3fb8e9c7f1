import { checkArray } from "../util/check.js";
import { HeedError } from "../util/errors.js";
import { noGrad } from "../core/autograd.js";
import { tensor, zeros } from "../core/creation.js";
import type { CausalDecoder } from "../models/causal-decoder.js";
import { Linear, LinearAdapter, type LinearForwardOptions } from "../nn/linear.js";
import { ops } from "../core/native.js";
import { add } from "../ops/binary.js";
import { sum } from "../ops/reduce.js";
import { square } from "../ops/unary.js";
import { reshape } from "../ops/views.js";
import { scope } from "../core/scope.js";
import type { FloatTensor } from "../core/tensor.js";

/** Importance of the inputs of a model's matrices, by the names of the parameters: f32 numbers of at least 0. */
export type InputImportance = ReadonlyMap<string, Float32Array>;

/** Adapter that changes nothing but adds up the squares of a layer's inputs. */
class SquaredInputs extends LinearAdapter {
  readonly active = true;
  readonly sums: FloatTensor;

  constructor(layer: Linear) {
    super();
    this.sums = zeros([layer.inputs], { device: (layer.quantized ?? layer.weight).device });
  }

  forward(x: FloatTensor, layer: Linear, options: LinearForwardOptions): FloatTensor {
    const rows = reshape(x.to("f32"), [-1, layer.inputs]);
    ops.copy({ out: this.sums, inp: add(this.sums, sum(square(rows), { axes: [0] })) });
    return layer.product(x, { bias: layer.bias, ...options });
  }
}

/**
 * Measures how large the inputs of each linear layer are when a model reads texts: the mean square of each input. The
 * error of a weight changes an output in proportion to its input, so that weights of large inputs matter most when a
 * matrix is quantised (`saveGguf` takes the result). Token tables are not measured. The model stays as it is.
 *
 * @param texts tokens of texts; those beyond the context are not read
 *
 * @example
 * const importance = await inputImportance(gpt, [tokenizer.encode("The whale swam on. The sea was calm.")]);
 * await saveGguf("gpt-q4.gguf", gpt, { tokenizer, type: "Q4_0", importance });
 *
 * @throws ERR_ARGUMENT if there is no text, or a layer has an adapter.
 * @see Lin et al. 2023, "AWQ", §3.1, https://arxiv.org/abs/2306.00978
 */
export async function inputImportance(model: CausalDecoder, texts: readonly Int32Array[]): Promise<InputImportance> {
  const op = "inputImportance";
  checkArray(op, "texts", texts);
  const layers = [...model.modules()].filter((entry): entry is [string, Linear] => entry[1] instanceof Linear);
  const adapted = layers.find(([, layer]) => layer.adapter);
  if (adapted)
    throw new HeedError("ERR_ARGUMENT", `${op}: expected a model without adapters, got one at ${adapted[0]}`);
  const used = texts.filter(({ length }) => length > 0).map((text) => text.subarray(0, model.config.contextLength));
  const rows = used.reduce((total, { length }) => total + length, 0);
  if (rows === 0) throw new HeedError("ERR_ARGUMENT", `${op}: expected texts with tokens, got none`);
  const { training } = model;
  const measured = layers.map(([name, layer]) => ({ name, layer, squares: new SquaredInputs(layer) }));
  try {
    for (const { layer, squares } of measured) layer.adapter = squares;
    model.eval();
    for (const text of used) {
      const ids = tensor(text, [1, text.length], { device: model.device, dtype: "i32" });
      noGrad(() => scope(() => void model.forward(ids, { lastOnly: true })));
      ids.dispose();
      // Work for the next text is enqueued only when this one is read, so that little memory waits for it.
      await measured.at(-1)?.squares.sums.data();
    }
    const importance = new Map<string, Float32Array>();
    for (const { name, squares } of measured)
      importance.set(
        `${name}.weight`,
        (await squares.sums.data()).map((sum) => sum / rows),
      );
    return importance;
  } finally {
    for (const { layer, squares } of measured) {
      layer.adapter = null;
      squares.dispose();
    }
    if (training) model.train();
  }
}
