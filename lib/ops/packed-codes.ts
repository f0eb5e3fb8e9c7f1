// Codes and scales of a quantised weight that were chosen on the host, in the kernels' order (native/core/quantized.h).
import { setPieces } from "../tensor-pieces.js";
import { inPieces, pauseIfLong, pieceLength } from "../turns.js";
import type { Device } from "../device.js";
import { emptyQuantized, panelOutputs, type QuantizedTensors, type QuantizeOptions } from "./quantize.js";

/** Bytes of the words of a panel of outputs, which lie side by side. */
const panelBytes = 64;

/** Codes and scales of a quantised weight on the host. They are 0 until they are set. */
export class PackedCodes {
  readonly #codes: Uint8Array;
  readonly #scales: Float32Array;
  readonly #words: number;
  readonly #groups: number;

  constructor(
    readonly inputs: number,
    readonly outputs: number,
    readonly options: Required<QuantizeOptions>,
  ) {
    const { bits, groupSize } = options;
    const panels = Math.ceil(outputs / panelOutputs);
    this.#groups = Math.ceil(inputs / groupSize);
    this.#words = (this.#groups * groupSize * bits) / 32;
    this.#codes = new Uint8Array(panels * this.#words * panelBytes).fill(bits === 8 ? 0x80 : 0x88);
    this.#scales = new Float32Array(panels * this.#groups * panelOutputs);
  }

  /** Sets the codes and the scale, a number of bf16, of the inputs of group `group` of an output. */
  set(output: number, group: number, codes: ArrayLike<number>, scale: number): void {
    const { bits, groupSize } = this.options;
    const [panel, lane] = [Math.floor(output / panelOutputs), output % panelOutputs];
    this.#scales[(panel * this.#groups + group) * panelOutputs + lane] = scale;
    const first = group * groupSize;
    const count = Math.min(groupSize, this.inputs - first);
    const perWord = 32 / bits;
    for (let i = 0; i < count; i++) {
      const k = first + i;
      const word = (panel * this.#words + Math.floor(k / perWord)) * panelBytes + 4 * lane;
      const j = k % perWord;
      if (bits === 8) this.#codes[word + j] = (codes[i]! & 255) ^ 0x80;
      else this.#codes[word + (j & 3)]! ^= (codes[i]! & 15) << (4 * (j >> 2));
    }
  }

  /** Returns the weight on a device. */
  async upload(device: Device): Promise<QuantizedTensors> {
    const { inputs, outputs, options } = this;
    const made = emptyQuantized({ inputs, outputs, device }, options);
    await setPieces(made.codes, bytesInPieces(this.#codes));
    await setPieces(made.scales, inPieces(this.#scales));
    return made;
  }
}

async function* bytesInPieces(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += pieceLength) {
    await pauseIfLong();
    yield bytes.subarray(at, at + pieceLength);
  }
}
