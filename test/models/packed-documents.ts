import { noGrad } from "../../lib/core/autograd.js";
import type { CausalDecoder } from "../../lib/models/causal-decoder.js";
import type { GptForwardOptions } from "../../lib/models/gpt.js";
import { tensor } from "../../lib/core/creation.js";
import type { IntTensor } from "../../lib/core/tensor.js";
import { expectClose, type Tolerance } from "../support/close.js";

const idsOf = (values: Int32Array, batch: number, device: string): IntTensor =>
  tensor(values, [batch, values.length / batch], { device });

export async function logitsOf(
  model: CausalDecoder,
  values: Int32Array,
  batch: number,
  options: GptForwardOptions = {},
): Promise<Float32Array> {
  using ids = idsOf(values, batch, model.device.name);
  using logits = noGrad(() => model.forward(ids, options));
  return await logits.data();
}

/**
 * Expects that logits, the loss and every gradient of documents packed in rows equal those of the documents alone.
 * `tokens` makes documents.
 */
export async function expectPackedIsAlone(
  model: CausalDecoder,
  tokens: (count: number) => Int32Array,
  tolerance: { logits: Tolerance; gradient: Tolerance },
): Promise<void> {
  const device = model.device.name;
  const V = model.config.vocabularySize;
  const documents = [
    [9, 1, 10],
    [14, 3],
  ]; // three tokens of padding
  const [values, wanted] = [tokens(40), tokens(40)];
  wanted.fill(-1, 37);
  using ids = idsOf(values, 2, device);
  using next = idsOf(wanted, 2, device);
  const packed = await logitsOf(model, values, 2, { documents });
  using loss = model.loss(ids, next, { documents, ignoreIndex: -1 });
  loss.backward();
  const gradients = new Map<string, Float32Array>();
  for (const [name, parameter] of model.namedParameters()) gradients.set(name, await parameter.grad!.data());
  model.zeroGrad();
  let total = 0;
  for (const [b, lengths] of documents.entries()) {
    let at = 20 * b;
    for (const length of lengths) {
      const own = values.slice(at, at + length);
      const got = packed.slice(at * V, (at + length) * V);
      expectClose(`document at ${at}`, got, await logitsOf(model, own, 1), tolerance.logits);
      using ownIds = idsOf(own, 1, device);
      using ownNext = idsOf(wanted.slice(at, at + length), 1, device);
      using ownLoss = model.loss(ownIds, ownNext);
      // The mean over 37 tokens is computed from the documents' means.
      ownLoss.backward(length / 37);
      total += ((await ownLoss.item()) * length) / 37;
      at += length;
    }
  }
  expectClose("loss", [await loss.item()], [total], { relative: 16, absolute: 0 });
  for (const [name, parameter] of model.namedParameters())
    expectClose(`gradient of ${name}`, gradients.get(name)!, await parameter.grad!.data(), tolerance.gradient);
}
