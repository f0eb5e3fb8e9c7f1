// Writing checkpoints of llama2.c: see llama2c.ts for the format. Tensors are streamed, one in memory at a time, and the
// file replaces an old one only when it is whole.
import { HeedError } from "../errors.js";
import { numel } from "../shape.js";
import { writeFileAtomic } from "./atomic-file.js";
import { type Llama2cConfig, llama2cOrder } from "./llama2c.js";
import { asBytes, writeFully } from "./whole-io.js";

/**
 * Writes a checkpoint of f32, asking `read` for each tensor by Hugging Face's name. Throws ERR_ARGUMENT for tensors of
 * another size, ERR_IO where the file cannot be written; an old file then stays.
 */
export async function writeLlama2c(
  path: string,
  config: Llama2cConfig,
  read: (name: string) => Float32Array | Promise<Float32Array>,
): Promise<void> {
  const { width, hidden, layers, heads, kvHeads, vocabularySize, contextLength, tied } = config;
  const vocabulary = tied ? vocabularySize : -vocabularySize;
  const order = [...llama2cOrder(config)];
  const room = order.reduce((sum, { shape }) => sum + 4 * numel(shape), 0);
  await writeFileAtomic(
    path,
    async (handle) => {
      await writeFully(
        handle,
        asBytes(Int32Array.of(width, hidden, layers, heads, kvHeads, vocabulary, contextLength)),
      );
      for (const { name, shape } of order) {
        const values = name === null ? rotaryTables(contextLength, width / heads) : await read(name);
        if (values.length !== numel(shape))
          throw new HeedError(
            "ERR_ARGUMENT",
            `llama2.c: expected ${numel(shape)} numbers of ${name}, got ${values.length}`,
          );
        await writeFully(handle, asBytes(values));
      }
    },
    { bytes: room },
  );
}

/** Cosines of every position's angles, then sines; llama2.c's program skips them. */
function rotaryTables(contextLength: number, headSize: number): Float32Array {
  const angles = Array.from({ length: (contextLength * headSize) / 2 }, (_, i) => {
    const pair = i % (headSize / 2);
    return ((i - pair) / (headSize / 2)) * 10_000 ** ((-2 * pair) / headSize);
  });
  return Float32Array.from([...angles.map(Math.cos), ...angles.map(Math.sin)]);
}
