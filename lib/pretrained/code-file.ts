// Weights in heed's own codes of 8 or 4 bits in a folder of Hugging Face's format. config.json has an entry:
//
//   "quantization_config": {"quant_method": "heed", "version": 1, "bits": 4, "group_size": 32}
//
// and a weight of a projection or a table of tokens has two tensors in the files. A row stands for an output, also if the
// family's files have such a weight as [in, out]:
//
//   NAME        I8 [out, in] or U8 [out, ceil(in / 2)]      codes in rows (see ops/code-rows.ts)
//   NAME_scale  BF16 [out, ceil(in / group_size)]           scales
//
// A number is code * scale, where a code of 8 bits is a signed integer. One of 4 bits is half of a byte less 8, and the
// low half comes first.
import { describe, HeedError, oneOf } from "../util/errors.js";
import type { PieceMemory, StoredPiece, WeightEntry, WeightFile } from "../formats/weights.js";
import { codeBytes } from "../ops/code-rows.js";
import { groupSizes, quantizedBits, type QuantizeOptions } from "../ops/quantize.js";
import { formatShape, sameShape, type Shape } from "../core/shape.js";

/** Number of bits and size of the groups in which all weights of a folder are quantised. */
export type Quantization = Required<QuantizeOptions>;

const [method, version] = ["heed", 1];
/** @internal Dtypes of codes in files. */
export const codeTypes = { 8: "I8", 4: "U8" } as const;
/** @internal Returns the name of the scales of a weight. */
export const scaleName = (name: string): string => `${name}_scale`;

/** Returns the entry "quantization_config" of config.json. */
export function quantizationEntry({ bits, groupSize }: Quantization): Record<string, unknown> {
  return { quant_method: method, version, bits, group_size: groupSize };
}

/**
 * Returns how the weights are quantised according to the content of config.json, or null if they are not
 * in heed's codes.
 *
 * @throws ERR_FORMAT if the entry "quantization_config" is invalid.
 */
export function readQuantization(config: unknown): Quantization | null {
  const { quantization_config: entry } = Object(config) as { quantization_config?: unknown };
  const given = Object(entry) as Record<string, unknown>;
  if (given.quant_method !== method) return null;
  const chosen = <T>(name: string, allowed: readonly T[]): T => {
    const found = allowed.find((value) => value === given[name]);
    if (found !== undefined) return found;
    throw new HeedError(
      "ERR_FORMAT",
      `expected quantization_config.${name} to be ${oneOf(allowed)}, got ${describe(given[name])}`,
    );
  };
  chosen("version", [version]);
  return { bits: chosen("bits", quantizedBits), groupSize: chosen("group_size", groupSizes) };
}

/**
 * A file with weights in codes. The entry of such a weight has the shape `storedShape` of the weight, and its scales have
 * no entry.
 */
export class CodeFile implements WeightFile {
  readonly path: string;
  readonly tensors: ReadonlyMap<string, WeightEntry>;
  readonly #coded = new Set<string>();

  private constructor(
    readonly file: WeightFile,
    readonly quantization: Quantization,
  ) {
    this.path = file.path;
    const entries = new Map(file.tensors);
    for (const [name, entry] of file.tensors) {
      if (entry.dtype !== "I8" && entry.dtype !== "U8") continue;
      this.#coded.add(name);
      entries.set(name, { dtype: entry.dtype, shape: this.#shapeOf(name, entry) });
      entries.delete(scaleName(name));
    }
    this.tensors = entries;
  }

  /**
   * Returns an open file as one with codes. If it is not such a file, closes it.
   *
   * @throws ERR_FORMAT if codes have no scales, or types or shapes do not fit.
   */
  static async of(file: WeightFile, quantization: Quantization): Promise<CodeFile> {
    try {
      return new CodeFile(file, quantization);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** Returns true if a tensor has codes. */
  isCoded(name: string): boolean {
    return this.#coded.has(name);
  }

  /** Returns the shape of the entry of a weight [out, in]: bytes are full, so that the inputs are even in 4 bits. */
  storedShape(shape: Shape): Shape {
    const { bits } = this.quantization;
    return [...shape.slice(0, -1), (codeBytes({ inputs: shape.at(-1)!, bits }) * 8) / bits];
  }

  #shapeOf(name: string, { dtype, shape }: WeightEntry): Shape {
    const { bits, groupSize } = this.quantization;
    const fault = (expected: string, got: string): HeedError =>
      new HeedError("ERR_FORMAT", `${this.path}: expected ${expected}, got ${got}`);
    if (dtype !== codeTypes[bits] || shape.length !== 2)
      throw fault(
        `codes of ${bits} bits in ${name} of dtype ${codeTypes[bits]} and shape [outputs, bytes]`,
        `${dtype} ${formatShape(shape)}`,
      );
    const [outputs, bytes] = shape as [number, number];
    const inputs = (bytes * 8) / bits;
    const groups = [outputs, Math.ceil(inputs / groupSize)];
    const scales = this.file.tensors.get(scaleName(name));
    if (scales?.dtype !== "BF16" || !sameShape(scales.shape, groups))
      throw fault(
        `${scaleName(name)} of dtype BF16 and shape ${formatShape(groups)}`,
        scales ? `${scales.dtype} ${formatShape(scales.shape)}` : "none",
      );
    return [outputs, inputs];
  }

  /** Yields the rows of codes of weights one after another, in pieces that share their memory. */
  async *readCodes(names: readonly string[], memory: PieceMemory): AsyncGenerator<Uint8Array> {
    for (const name of names) yield* this.file.readBytes!(name, memory);
  }

  /** Yields the rows of scales, the bytes of bf16, of weights one after another, in pieces that share their memory. */
  readScales(names: readonly string[], memory: PieceMemory): AsyncGenerator<Uint8Array> {
    return this.readCodes(names.map(scaleName), memory);
  }

  readFloats(name: string): Promise<Float32Array> {
    return this.file.readFloats(name);
  }

  readPieces(name: string): AsyncGenerator<Float32Array> {
    return this.file.readPieces(name);
  }

  readStored(name: string, memory?: PieceMemory): AsyncGenerator<StoredPiece> {
    return this.file.readStored?.(name, memory) ?? this.file.readPieces(name);
  }

  async close(): Promise<void> {
    await this.file.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
