// Codes and scales of a quantised weight in rows, one for each output, as files store them. On a device they are in the
// kernels' order (native/core/quantized.h): panels of 16 outputs, in which words of the outputs lie side by side. A word
// is 32 bits of codes, or a scale. Only the order changes here, never a code or a scale.
//
// A row has a byte for each input in 8 bits, a signed integer. In 4 bits it has a byte for two inputs, the low half
// first; a half is the code plus 8. If the number of inputs is odd, the last half is that of the code 0.
import { bitsOf, type DataOf, Halves } from "../core/dtype.js";
import type { Tensor } from "../core/tensor.js";
import { setPart } from "../core/tensor-pieces.js";
import { pauseIfLong, pieceLength } from "../util/turns.js";
import { panelOutputs, type QuantizedTensors } from "./quantize.js";

/** Returns the bytes of a row of codes. */
export function codeBytes({ inputs, bits }: Pick<QuantizedTensors, "inputs" | "bits">): number {
  return Math.ceil((inputs * bits) / 8);
}

/** Yields the rows of codes of `count` outputs from `first` on, in pieces of whole rows. */
export async function* readCodeRows(
  weight: QuantizedTensors,
  first: number,
  count: number,
): AsyncGenerator<Uint8Array> {
  const [row, whole] = [codeBytes(weight), 4 * wordsOf(weight)];
  for await (const [data, from, to] of panelsOf(weight.codes, first, count)) {
    const words = new Uint32Array(data.length / 4);
    turn(new Uint32Array(data.buffer, data.byteOffset, words.length), words, wordsOf(weight), false);
    swapOrder(words, weight.bits, false);
    const bytes = new Uint8Array(words.buffer);
    const rows = new Uint8Array((to - from) * row);
    for (let n = from; n < to; n++) rows.set(bytes.subarray(n * whole, n * whole + row), (n - from) * row);
    yield rows;
  }
}

/** Yields the rows of scales, the bits of bf16, of `count` outputs from `first` on, in pieces of whole rows. */
export async function* readScaleRows(
  { scales }: QuantizedTensors,
  first: number,
  count: number,
): AsyncGenerator<Uint16Array> {
  const groups = scales.shape[1]!;
  for await (const [data, from, to] of panelsOf(scales, first, count)) {
    const rows = new Uint16Array(data.length);
    turn(bitsOf("bf16", data), rows, groups, false);
    yield rows.subarray(from * groups, to * groups);
  }
}

/** Sets the codes of a weight to rows, given in pieces of any length. */
export async function setCodeRows(weight: QuantizedTensors, pieces: AsyncIterable<Uint8Array>): Promise<void> {
  const { inputs, outputs, bits, codes } = weight;
  const [row, whole] = [codeBytes(weight), 4 * wordsOf(weight)];
  const most = rowsAtOnce(outputs, row);
  const bytes = new Uint8Array(most * whole);
  const panels = new Uint32Array((most * whole) / 4);
  let at = 0;
  for await (const rows of inPanels(pieces, row, most)) {
    bytes.fill(bits === 8 ? 0 : 0x88);
    for (let n = 0; n * row < rows.length; n++) {
      bytes.set(rows.subarray(n * row, (n + 1) * row), n * whole);
      const last = n * whole + row - 1;
      if (bits === 4 && inputs % 2 === 1) bytes[last] = (bytes[last]! & 0xf) | 0x80;
    }
    const words = new Uint32Array(bytes.buffer);
    swapOrder(words, bits, true);
    turn(words, panels, wordsOf(weight), true);
    const part = new Uint8Array(panels.buffer, 0, padded(rows.length / row) * whole);
    await setPart(codes, at, part);
    at += part.length;
  }
}

/** Sets the scales of a weight to rows of bf16, given in pieces of any length. */
export async function setScaleRows(
  { outputs, scales }: QuantizedTensors,
  pieces: AsyncIterable<Uint8Array>,
): Promise<void> {
  const groups = scales.shape[1]!;
  const most = rowsAtOnce(outputs, 2 * groups);
  const [bits, panels] = [new Uint16Array(most * groups), new Uint16Array(most * groups)];
  let at = 0;
  for await (const rows of inPanels(pieces, 2 * groups, most)) {
    new Uint8Array(bits.buffer).fill(0).set(rows);
    turn(bits, panels, groups, true);
    const part = panels.subarray(0, padded(rows.length / 2 / groups) * groups);
    await setPart(scales, at, new Halves("bf16", part));
    at += part.length;
  }
}

/** Returns the words of an output, those of padding included. */
function wordsOf({ codes }: QuantizedTensors): number {
  return codes.shape[1]!;
}

/** Returns the number of rows up to a whole panel. */
function padded(outputs: number): number {
  return Math.ceil(outputs / panelOutputs) * panelOutputs;
}

/** Returns how many rows are reordered at a time: whole panels of about `pieceLength` bytes. */
function rowsAtOnce(outputs: number, row: number): number {
  return Math.min(padded(outputs), Math.max(1, Math.floor(pieceLength / row / panelOutputs)) * panelOutputs);
}

/** Copies rows [outputs, words] to panels [panels, words, 16], or the reverse; outputs are a multiple of 16. */
function turn<T extends Uint16Array | Uint32Array>(given: T, out: T, words: number, toPanels: boolean): void {
  const panel = panelOutputs * words;
  for (let first = 0; first < given.length; first += panel)
    for (let n = 0; n < panelOutputs; n++)
      for (let word = 0; word < words; word++) {
        const inRow = first + n * words + word;
        const inPanel = first + word * panelOutputs + n;
        if (toPanels) out[inPanel] = given[inRow]!;
        else out[inRow] = given[inPanel]!;
      }
}

/** Exchanges, in place, the order of codes in the words of rows for that in the words of panels, or the reverse. */
function swapOrder(words: Uint32Array, bits: number, toPanels: boolean): void {
  // In panels, codes of 8 bits have no sign: 0x80 is the code 0.
  if (bits === 8) for (let i = 0; i < words.length; i++) words[i]! ^= 0x80808080;
  // Halves of bytes 0 to 7 of a row become 0, 4, 1, 5, 2, 6, 3, 7. Both exchanges undo themselves.
  else if (toPanels) for (let i = 0; i < words.length; i++) words[i] = exchanged(exchanged(words[i]!, 8), 4);
  else for (let i = 0; i < words.length; i++) words[i] = exchanged(exchanged(words[i]!, 4), 8);
}

/** Exchanges the inner two of four parts of 8 bits in a word, or of 4 bits in both of its halves. */
function exchanged(word: number, bits: 8 | 4): number {
  const differing = (word ^ (word >>> bits)) & (bits === 8 ? 0x0000ff00 : 0x00f000f0);
  return word ^ differing ^ (differing << bits);
}

/**
 * Yields the panels of `count` outputs from `first` on, in pieces, with the first and the end of those outputs in the
 * piece.
 */
async function* panelsOf<D extends "u8" | "bf16">(
  tensor: Tensor<D>,
  first: number,
  count: number,
): AsyncGenerator<[data: DataOf<D>, from: number, to: number]> {
  const size = tensor.size / tensor.shape[0]!;
  const most = Math.max(1, Math.floor(pieceLength / size));
  const end = Math.ceil((first + count) / panelOutputs);
  for (let panel = Math.floor(first / panelOutputs); panel < end; panel += most) {
    const panels = Math.min(most, end - panel);
    using part = tensor.viewAs([panels * size], [1], panel * size, false);
    const data = await part.data();
    await pauseIfLong();
    const outputs = panel * panelOutputs;
    yield [data, Math.max(first - outputs, 0), Math.min(first + count - outputs, panels * panelOutputs)];
  }
}

/** Joins pieces of rows of `row` bytes to pieces of `most` rows, or fewer at the end. They share their memory. */
async function* inPanels(pieces: AsyncIterable<Uint8Array>, row: number, most: number): AsyncGenerator<Uint8Array> {
  const room = new Uint8Array(most * row);
  let filled = 0;
  for await (const piece of pieces)
    for (let at = 0; at < piece.length;) {
      const part = piece.subarray(at, at + room.length - filled);
      room.set(part, filled);
      at += part.length;
      filled += part.length;
      if (filled < room.length) continue;
      await pauseIfLong();
      yield room;
      filled = 0;
    }
  if (filled > 0) yield room.subarray(0, filled);
}
