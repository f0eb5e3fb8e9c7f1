import { type BlockFormat, blockFormats } from "../core/block-formats.js";
import { fromBuffer } from "../core/foreign.js";
import { native, ops } from "../core/native.js";

/**
 * Decodes whole blocks into `out`, with the kernel of the CPU that reads rows of weights in blocks. Neither array may
 * change before the result has settled, because the kernel works on their memory.
 */
export async function decodeBlocks(format: BlockFormat, stored: Uint8Array, out: Float32Array): Promise<void> {
  const { kind, numbers, bytes } = blockFormats[format];
  const count = stored.length / bytes;
  using blocks = fromBuffer(stored, [count, bytes]);
  using values = fromBuffer(out, [count, numbers]);
  ops.dequantize_blocks({ out: values, ids: null, blocks, format: kind });
  await native.computed(values.handle);
}
