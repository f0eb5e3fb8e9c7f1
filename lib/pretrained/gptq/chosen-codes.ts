import type { Device } from "../../core/device.js";
import { bitsOf } from "../../core/dtype.js";
import { asBytes } from "../../formats/whole-io.js";
import { codeBytes, setCodeRows, setScaleRows } from "../../ops/code-rows.js";
import { emptyQuantized, type QuantizedTensors, type QuantizeOptions } from "../../ops/quantize.js";
import { inPieces } from "../../util/turns.js";

/** Codes and scales of a weight that are chosen on the host, in rows (ops/code-rows.ts). Each group is set once. */
export class ChosenCodes {
  readonly #codes: Uint8Array;
  readonly #scales: Float32Array;
  readonly #row: number;
  readonly #groups: number;

  constructor(
    readonly inputs: number,
    readonly outputs: number,
    readonly options: Required<QuantizeOptions>,
  ) {
    this.#row = codeBytes({ inputs, bits: options.bits });
    this.#groups = Math.ceil(inputs / options.groupSize);
    this.#codes = new Uint8Array(outputs * this.#row);
    this.#scales = new Float32Array(outputs * this.#groups);
  }

  /** Sets the codes and the scale, a number of bf16, of the inputs of group `group` of an output. */
  set(output: number, group: number, codes: ArrayLike<number>, scale: number): void {
    const { bits, groupSize } = this.options;
    this.#scales[output * this.#groups + group] = scale;
    const first = group * groupSize;
    const count = Math.min(groupSize, this.inputs - first);
    const row = output * this.#row;
    for (let i = 0; i < count; i++) {
      const k = first + i;
      if (bits === 8) this.#codes[row + k] = codes[i]!;
      else this.#codes[row + (k >> 1)]! |= (codes[i]! + 8) << (4 * (k & 1));
    }
  }

  /** Returns the weight on a device. */
  async upload(device: Device): Promise<QuantizedTensors> {
    const { inputs, outputs, options } = this;
    const made = emptyQuantized({ inputs, outputs, device }, options);
    await setCodeRows(made, inPieces(this.#codes));
    await setScaleRows(made, scaleBytes(this.#scales));
    return made;
  }
}

async function* scaleBytes(scales: Float32Array): AsyncGenerator<Uint8Array> {
  for await (const piece of inPieces(scales)) yield asBytes(bitsOf("bf16", piece));
}
