import { expect } from "vitest";
import { EncoderDecoder } from "../../lib/models/encoder-decoder.js";
import type { T5 } from "../../lib/models/t5.js";
import { scope } from "../../lib/core/scope.js";
import { tensor } from "../../lib/core/creation.js";
import type { IntTensor } from "../../lib/core/tensor.js";
import { expectClose, type Tolerance } from "../support/close.js";

/** A source sequence and its target; there are as many labels as target tokens. */
export interface Pair {
  source: readonly number[];
  target: readonly number[];
  labels: readonly number[];
}

/** Expects that the loss of a padded batch, and every gradient, equal those of its pairs one by one. */
export async function expectBatchIsItsPairs(
  model: EncoderDecoder | T5,
  pairs: readonly Pair[],
  gradient: Tolerance,
): Promise<void> {
  const { device } = model;
  const int = (rows: readonly (readonly number[])[], fill = 0): IntTensor => {
    const length = Math.max(...rows.map((row) => row.length));
    const padded = rows.flatMap((row) => [...row, ...Array.from({ length: length - row.length }, () => fill)]);
    return tensor(Int32Array.from(padded), [rows.length, length], { device });
  };
  const lengthsOf = (rows: readonly (readonly number[])[]): IntTensor =>
    tensor(
      rows.map(({ length }) => length),
      [rows.length],
      { device, dtype: "i32" },
    );
  const gradients = async (): Promise<Map<string, Float32Array>> => {
    const all = new Map<string, Float32Array>();
    for (const [name, { grad }] of model.namedParameters()) all.set(name, await grad!.data());
    model.zeroGrad();
    return all;
  };
  using together = scope(() => {
    const [sources, targets] = [pairs.map(({ source }) => source), pairs.map(({ target }) => target)];
    const labels = int(
      pairs.map((pair) => pair.labels),
      -100,
    );
    const sourceLengths = lengthsOf(sources);
    // A T5's targets need no lengths, because tokens that follow are not seen.
    const options =
      model instanceof EncoderDecoder ? { sourceLengths, targetLengths: lengthsOf(targets) } : { sourceLengths };
    return model.loss(int(sources, 10), int(targets, 11), labels, options);
  });
  together.backward();
  const whole = await gradients();
  // The mean over all tokens is computed from each pair's mean, weighted by its share of the tokens.
  const tokens = pairs.reduce((sum, { target }) => sum + target.length, 0);
  let sum = 0;
  for (const { source, target, labels } of pairs) {
    using loss = scope(() => model.loss(int([source]), int([target]), int([labels])));
    const share = target.length / tokens;
    sum += share * (await loss.item());
    loss.backward(share);
  }
  expectClose("loss", [await together.item()], [sum], { relative: 32, absolute: 0 });
  const single = await gradients();
  const largest = Math.max(...[...single.values()].flatMap((values) => Array.from(values, Math.abs)));
  expect(largest).toBeGreaterThan(0);
  for (const [name, expected] of single)
    expectClose(`gradient of ${name}`, whole.get(name)!, expected, gradient, largest);
}
