/** Weights of random blocks, for tests of products with them. */
import { type BlockFormat } from "../../lib/core/block-formats.js";
import { tensor } from "../../lib/core/creation.js";
import type { BlockTensors } from "../../lib/ops/quantize.js";
import { blocks, halfBits } from "../formats/gguf-blocks.js";
import type { Random } from "./random.js";

export function blocksOn(
  random: Random,
  device: string,
  format: BlockFormat,
  outputs: number,
  inputs: number,
): BlockTensors {
  const { numbers, random: block } = blocks.find(({ name }) => name === format)!;
  // Scales that do not make products overflow in f16; MXFP4 has exponents in their place.
  const small = format === "MXFP4" ? () => 119 : (from: Random) => halfBits(from.normal() / 256);
  const made = Array.from({ length: (outputs * inputs) / numbers }, () => block(random, small).bytes);
  const bytes = Buffer.concat(made);
  const stored = tensor(bytes, [outputs, bytes.length / outputs], { device, dtype: "u8" });
  return { blocks: stored, format, outputs, inputs };
}
