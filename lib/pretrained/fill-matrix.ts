// Fills matrices of a model whose numbers a file stores in another order or precision than the model needs.
import type { StoredPiece } from "../formats/weights.js";
import { type BlockFormat, blockFormats } from "../core/block-formats.js";
import { BlockWeight, QuantizedWeight } from "../nn/quantized-weight.js";
import type { WeightLayer } from "../nn/weight-layer.js";
import { ops } from "../core/native.js";
import { setCodeRows, setScaleRows } from "../ops/code-rows.js";
import { emptyQuantized, quantizePart, type QuantizeOptions, rowsTogether } from "../ops/quantize.js";
import { transposed as view } from "../ops/views.js";
import { allocate, type FloatTensor } from "../core/tensor.js";
import { setPart, setPieces } from "../core/tensor-pieces.js";
import { pieceLength } from "../util/turns.js";

/**
 * Quantises the weight of a layer from the pieces of a matrix, which is the weight or its transpose. Only a few rows of
 * the matrix are in memory as floats at any time.
 */
export async function setQuantized(
  layer: WeightLayer,
  pieces: AsyncIterable<StoredPiece>,
  { transposed, ...options }: QuantizeOptions & { transposed: boolean },
): Promise<void> {
  const { shape, dtype, device } = layer.weight;
  const [inputs, outputs] = (layer.layout === "io" ? shape : [...shape].reverse()) as [number, number];
  const target = new QuantizedWeight(emptyQuantized({ inputs, outputs, device }, options));
  layer.replaceWeight(target);
  // Rows of the file are outputs ("oi") or inputs ("io").
  const layout = rowsAreOutputs(layer, transposed) ? "oi" : "io";
  const [all, width] = layout === "oi" ? [outputs, inputs] : [inputs, outputs];
  const together = rowsTogether(target, layout);
  const most = Math.max(1, Math.floor(pieceLength / width / together)) * together;
  using room = allocate([Math.min(most, all), width], dtype, device, false);
  let [first, filled] = [0, 0];
  for await (const piece of pieces)
    for (let at = 0; at < piece.length;) {
      const count = Math.min(most, all - first);
      const part = piece.subarray(at, at + count * width - filled);
      await setPart(room, filled, part);
      at += part.length;
      filled += part.length;
      if (filled < count * width) continue;
      using rows = room.viewAs([count, width], [width, 1], 0, false);
      quantizePart(target, rows, layout, first);
      first += count;
      filled = 0;
    }
}

/**
 * Returns true if the rows of a matrix in a file, which is the layer's weight or its transpose, are the layer's outputs.
 * Only then can the layer compute with blocks of the rows.
 */
export function rowsAreOutputs({ layout }: WeightLayer, transposed: boolean): boolean {
  return (layout === "oi") !== transposed;
}

/** Replaces the weight of a layer by blocks of a file, whose rows are outputs, without decoding them. */
export async function setBlocks(
  layer: WeightLayer,
  bytes: AsyncIterable<Uint8Array>,
  format: BlockFormat,
): Promise<void> {
  const { shape, device } = layer.weight;
  const [inputs, outputs] = (layer.layout === "io" ? shape : [...shape].reverse()) as [number, number];
  const row = (inputs / blockFormats[format].numbers) * blockFormats[format].bytes;
  const blocks = allocate([outputs, row], "u8", device);
  layer.replaceWeight(new BlockWeight({ blocks, format, inputs, outputs }));
  await setPieces(blocks, bytes);
}

/** Replaces the weight of a layer by codes and scales of a file, given as pieces of their rows. */
export async function setCodes(
  layer: WeightLayer,
  codes: AsyncIterable<Uint8Array>,
  scales: AsyncIterable<Uint8Array>,
  options: QuantizeOptions,
): Promise<void> {
  const { shape, device } = layer.weight;
  const [inputs, outputs] = (layer.layout === "io" ? shape : [...shape].reverse()) as [number, number];
  const target = new QuantizedWeight(emptyQuantized({ inputs, outputs, device }, options));
  layer.replaceWeight(target);
  await setCodeRows(target, codes);
  await setScaleRows(target, scales);
}

/** Sets a matrix from the pieces of its transpose. The device transposes it. */
export async function setTransposed(matrix: FloatTensor, pieces: AsyncIterable<StoredPiece>): Promise<void> {
  using given = allocate([...matrix.shape].reverse(), matrix.dtype, matrix.device, false);
  await setPieces(given, pieces);
  using turned = view(given);
  ops.copy({ out: matrix, inp: turned });
  matrix.overwritten();
}
