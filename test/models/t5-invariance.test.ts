/**
 * In inference a row's bits depend on that row alone: T5 and the encoder–decoder read sources and generate targets with
 * the same bits whatever is beside them, whatever the chunks, and whether a step is recorded or not.
 */
import { afterAll, describe, expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { tensor } from "../../lib/core/creation.js";
import { generateTokens } from "../../lib/generate/generate-tokens.js";
import { EncoderDecoder } from "../../lib/models/encoder-decoder.js";
import type { SequenceToSequence } from "../../lib/models/sequence-to-sequence.js";
import { T5 } from "../../lib/models/t5.js";
import { native } from "../../lib/core/native.js";
import type { FloatDType } from "../../lib/core/dtype.js";
import type { FloatTensor, IntTensor } from "../../lib/core/tensor.js";
import { shaken } from "../support/shaken.js";
import { bestIsa, productTargets } from "../support/targets.js";

const vocabularySize = 29;
const sizes = { layers: 1, heads: 2, width: 16, dropout: 0 };

const families = {
  T5: (device: string, dtype: FloatDType): SequenceToSequence =>
    new T5({ ...sizes, vocabularySize, headSize: 6, contextLength: 80, buckets: 8, furthest: 20 }, { device, dtype }),
  EncoderDecoder: (device: string, dtype: FloatDType): SequenceToSequence =>
    new EncoderDecoder(
      { ...sizes, sourceVocabularySize: vocabularySize, startToken: 0, endToken: 1, contextLength: 80 },
      { device, dtype },
    ),
};

const ids = (row: number, length: number): number[] =>
  Array.from({ length }, (_, i) => (3 + row * 5 + i * i + (i % 7) * row) % vocabularySize);

function padded(rows: number[][], device: string): { input: IntTensor; lengths: IntTensor } {
  const longest = Math.max(...rows.map((row) => row.length));
  const values = rows.flatMap((row) => [...row, ...Array<number>(longest - row.length).fill(1)]);
  return {
    input: tensor(values, [rows.length, longest], { device, dtype: "i32" }),
    lengths: tensor(
      Int32Array.from(rows, (row) => row.length),
      [rows.length],
      { device },
    ),
  };
}

async function firstRow(x: FloatTensor): Promise<Buffer> {
  const data = await x.data();
  const size = data.length / x.shape[0]!;
  x.dispose();
  return Buffer.from(data.slice(0, size).buffer);
}

/** Returns the logits of the first source's target, chunk by chunk, with the targets of the other sources beside it. */
async function logitsOf(
  model: SequenceToSequence,
  sources: number[][],
  targets: number[][],
  chunks: number[],
): Promise<Buffer> {
  const { device } = model;
  using decoder = ((): ReturnType<SequenceToSequence["decoderFor"]> => {
    const { input, lengths } = padded(sources, device.name);
    const made = model.decoderFor(input, { lengths });
    input.dispose();
    lengths.dispose();
    return made;
  })();
  using cache = decoder.createCache(sources.length);
  const parts: Buffer[] = [];
  let from = 0;
  for (const count of chunks) {
    const values = targets.flatMap((target) => Array.from({ length: count }, (_, i) => target[from + i] ?? 0));
    using input = tensor(values, [targets.length, count], { device, dtype: "i32" });
    parts.push(await firstRow(noGrad(() => decoder.forward(input, { cache }))));
    from += count;
  }
  return Buffer.concat(parts);
}

afterAll(() => native.selectIsa(bestIsa));

describe.each(Object.entries(families))("%s", (_, make) => {
  describe.each(productTargets)("on $name", ({ device, select }) => {
    // The software device is some hundred times slower.
    const counts = device === "cpu" ? [2, 8, 9, 33] : [2, 9];
    test.for(["f32", "bf16"] as const)(
      "a %s target alone, in chunks and beside others has the same bits",
      async (dtype) => {
        select();
        using model = shaken(make(device, dtype)).eval();
        const source = (row: number): number[] => ids(row, 1 + ((11 + 17 * row) % 40));
        const target = (row: number): number[] => ids(row + 50, 1 + ((37 + 13 * row) % 41));
        const [first, own] = [source(0), target(0)];
        const alone = await logitsOf(model, [first], [own], [own.length]);
        expect(alone.equals(await logitsOf(model, [first], [own], [5, 1, 1, own.length - 7])), "in chunks").toBe(true);
        for (const count of counts) {
          const rows = Array.from({ length: count }, (_, row) => row);
          const beside = await logitsOf(model, rows.map(source), rows.map(target), [own.length - 1, 1]);
          expect(alone.equals(beside), `beside ${count - 1} others`).toBe(true);
        }
      },
    );

    test("an encoded source has the same bits beside longer ones", async () => {
      select();
      using model = shaken(make(device, "f32")).eval();
      const encoded = async (rows: number[][]): Promise<Buffer> => {
        const { input, lengths } = padded(rows, device);
        using states = noGrad(() => model.encode(input, { lengths }));
        const data = await states.data();
        input.dispose();
        lengths.dispose();
        return Buffer.from(data.slice(0, rows[0]!.length * sizes.width).buffer);
      };
      const alone = await encoded([ids(0, 9)]);
      for (const length of [1, 10, 33, 70])
        expect(alone.equals(await encoded([ids(0, 9), ids(1, length)])), `beside ${length} tokens`).toBe(true);
    });

    test("generated tokens are those of each source alone", async () => {
      select();
      using model = shaken(make(device, "f32")).eval();
      const sources = [ids(0, 7), ids(1, 30), ids(2, 1)];
      const options = { maxTokens: device === "cpu" ? 40 : 5, temperature: 1, seed: 3 };
      const generated = async (rows: number[][]): Promise<number[][]> => {
        const { input, lengths } = padded(rows, device);
        using decoder = model.decoderFor(input, { lengths });
        const results = await generateTokens(
          decoder,
          rows.map(() => [0]),
          options,
        );
        input.dispose();
        lengths.dispose();
        return results.map(({ tokens }) => tokens);
      };
      const [together] = await generated(sources);
      expect([together]).toEqual(await generated([sources[0]!]));
    });
  });
});
