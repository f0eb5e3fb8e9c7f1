// Writes files of llama2.c; llama2c.ts describes the format. Tensors are streamed, one in memory at a time, and the new
// file replaces an old one only when it is complete.
import { HeedError } from "../util/errors.js";
import { numel } from "../core/shape.js";
import { writeFileAtomic } from "./atomic-file.js";
import { type Llama2cConfig, llama2cOrder } from "./llama2c.js";
import { asBytes, writeFully } from "./whole-io.js";

/**
 * Writes the f32 file of a model. `read` yields the numbers of a tensor in pieces; it is called with the tensor's name
 * in Hugging Face's format.
 *
 * @throws ERR_ARGUMENT if a tensor has another number of elements than `config` says.
 * @throws ERR_IO if the file cannot be written; an old file then stays unchanged.
 */
export async function writeLlama2c(
  path: string,
  config: Llama2cConfig,
  read: (name: string) => AsyncIterable<Float32Array>,
): Promise<void> {
  const { width, feedForwardWidth: hidden, layers, heads, kvHeads, vocabularySize, contextLength, tied } = config;
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
        const pieces = name === null ? rotaryTables(contextLength, width / heads) : read(name);
        let count = 0;
        for await (const piece of pieces) {
          await writeFully(handle, asBytes(piece));
          count += piece.length;
        }
        if (count !== numel(shape))
          throw new HeedError("ERR_ARGUMENT", `llama2.c: expected ${numel(shape)} numbers of ${name}, got ${count}`);
      }
    },
    { bytes: room },
  );
}

/** Yields the cosines of the angles of all positions, then the sines, in pieces. llama2.c's program ignores them. */
function* rotaryTables(contextLength: number, headSize: number): Generator<Float32Array> {
  const pairs = headSize / 2;
  const speeds = Array.from({ length: pairs }, (_, pair) => 10_000 ** ((-2 * pair) / headSize));
  const positions = 512;
  for (const wave of [Math.cos, Math.sin])
    for (let first = 0; first < contextLength; first += positions) {
      const length = Math.min(positions, contextLength - first) * pairs;
      yield Float32Array.from({ length }, (_, i) => wave((first + Math.floor(i / pairs)) * speeds[i % pairs]!));
    }
}
