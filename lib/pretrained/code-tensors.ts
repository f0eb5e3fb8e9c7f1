// Weights of a quantised model as tensors of a folder in Hugging Face's format (see code-file.ts).
import type { SafetensorsInput } from "../formats/safetensors.js";
import { asBytes } from "../formats/whole-io.js";
import type { Module } from "../nn/module.js";
import { QuantizedWeight } from "../nn/quantized-weight.js";
import { WeightLayer } from "../nn/weight-layer.js";
import { codeBytes, readCodeRows, readScaleRows } from "../ops/code-rows.js";
import { pauseIfLong } from "../util/turns.js";
import { codeTypes, scaleName } from "./code-file.js";
import type { FamilySaving } from "./families/family.js";

/** Codes or scales to write. */
export interface CodeInput extends SafetensorsInput {
  readonly dtype: "I8" | "U8" | "BF16";
  readonly data: () => AsyncIterable<ArrayBufferView>;
}

/** Returns the codes and scales of a model's weights. If layers share a weight, it is there once. */
export function codeTensors(model: Module, saving: FamilySaving): CodeInput[] {
  const weights = new Map<QuantizedWeight, string>();
  for (const [layer, module] of model.modules())
    if (module instanceof WeightLayer && module.quantized instanceof QuantizedWeight && !weights.has(module.quantized))
      weights.set(module.quantized, `${layer}.weight`);
  return [...weights].flatMap(([weight, parameter]) => tensorsOf(model, saving, weight, parameter));
}

function tensorsOf(model: Module, saving: FamilySaving, weight: QuantizedWeight, parameter: string): CodeInput[] {
  const { inputs, outputs, bits, groupSize } = weight;
  const whole = { name: saving.nameInFile?.(model, parameter) ?? parameter, shape: [outputs, inputs] };
  const rows = Float32Array.from({ length: outputs }, (_, row) => row);
  // A family that changes values only reorders rows, so that numbers of rows are reordered as the rows are.
  const order = saving.values?.(model, parameter, rows) ?? rows;
  const moved = order.some((row, i) => row !== i);
  let end = 0;
  return (saving.tensors?.(model, parameter, whole.shape) ?? [whole]).flatMap(({ name, shape }): CodeInput[] => {
    const count = shape[0]!;
    const first = end;
    end += count;
    const read = (rowsOf: typeof readCodeRows | typeof readScaleRows): AsyncIterable<ArrayBufferView> =>
      moved
        ? inOrder(rowsOf(weight, 0, outputs), order, { first, count })
        : (rowsOf(weight, first, count) as AsyncIterable<ArrayBufferView>);
    return [
      { name, dtype: codeTypes[bits], shape: [count, codeBytes(weight)], data: () => read(readCodeRows) },
      {
        name: scaleName(name),
        dtype: "BF16",
        shape: [count, Math.ceil(inputs / groupSize)],
        data: () => read(readScaleRows),
      },
    ];
  });
}

/** Yields `count` rows from row `first` on, of all rows in another order: row i is row `order[i]` of the pieces. */
async function* inOrder(
  pieces: AsyncIterable<Uint8Array | Uint16Array>,
  order: Float32Array,
  { first, count }: { first: number; count: number },
): AsyncGenerator<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const piece of pieces) parts.push(asBytes(piece));
  await pauseIfLong();
  const given = Buffer.concat(parts);
  const row = given.length / order.length;
  const out = new Uint8Array(count * row);
  for (let i = 0; i < count; i++) {
    const from = order[first + i]! * row;
    out.set(given.subarray(from, from + row), i * row);
  }
  yield out;
}
