/** A token's logits do not depend on the texts that are computed in the same pass, bit for bit. */
import { expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { tensor } from "../../lib/core/creation.js";
import type { FloatDType } from "../../lib/core/dtype.js";
import { GPT } from "../../lib/models/gpt.js";
import { PagedPass } from "../../lib/nn/kv-pages.js";
import { scope } from "../../lib/core/scope.js";
import type { FloatTensor, IntTensor } from "../../lib/core/tensor.js";
import { devices, someTokens } from "../generate/models.js";
import { shaken } from "../support/shaken.js";

const vocabularySize = 61;
const pageSize = 24;
/** Tokens of each text that a pass reads; texts with the same number of them stand side by side. */
const passes = [
  [30, 1, 1],
  [1, 1, 40],
  [6, 6, 230],
  [1, 1, 1],
];

const kinds = [
  ["f32", null],
  ["bf16", null],
  ["f32", "int8"],
  ["bf16", "int8"],
  ["f32", "f16"],
  ["f32", "bf16"],
] as const;
const cases = devices.flatMap((device) => kinds.map(([dtype, kvType]) => [device, dtype, kvType] as const));
test.for(cases)("pages, pieces and neighbours on %s, %s, keys and values in %s", async ([device, dtype, kvType]) => {
  using model = modelOn(device, dtype);
  const texts = passes[0]!.map((_, b) => someTokens(280, b));
  using memory = model.createPages(40, pageSize, kvType);
  const lengths = texts.map(() => 0);
  const parts: Buffer[][] = texts.map(() => []);
  const row = (values: number[]): IntTensor => ints(values, [1, values.length], device);
  /** Returns the logits of a pass over pages that reads `counts` tokens of the texts after the first `lengths`. */
  const pass = (counts: readonly number[], lengths: readonly number[]): Promise<Buffer> =>
    bytesOf(() => {
      const ids = counts.flatMap((count, b) => texts[b]!.slice(lengths[b], lengths[b]! + count));
      const positions = counts.flatMap((count, b) => Array.from({ length: count }, (_, t) => lengths[b]! + t));
      const sizes = [...new Set(counts)].filter((count) => count > 0);
      const groups = sizes.map((count) => groupOf(count, counts, lengths, device));
      return model.forward(row(ids), { cache: new PagedPass(memory, groups, row(positions)) });
    });
  for (const counts of passes) {
    const logits = await pass(counts, lengths);
    let first = 0;
    for (const [b, count] of counts.entries()) {
      parts[b]!.push(logits.subarray(first * vocabularySize * 4, (first + count) * vocabularySize * 4));
      first += count;
      lengths[b]! += count;
    }
  }
  for (const [b, text] of texts.entries()) {
    const count = lengths[b]!;
    const alone = kvType
      ? await pass(
          texts.map((_, other) => (other === b ? count : 0)),
          texts.map(() => 0),
        )
      : await bytesOf(() => model.forward(row(text.slice(0, count))));
    expect(Buffer.concat(parts[b]!).equals(alone), `text ${b}`).toBe(true);
  }
});

function modelOn(device: string, dtype: FloatDType): GPT {
  const sizes = { vocabularySize, contextLength: 288, layers: 2, heads: 4, kvHeads: 2, width: 72 };
  return shaken(new GPT({ ...sizes, positions: "rotary" }, { device, dtype }), { seed: 3 }).eval();
}

/** Returns the group of those texts that have `count` tokens in a pass; text b has pages from 13 · b on. */
function groupOf(count: number, counts: readonly number[], lengths: readonly number[], device: string) {
  const members = [...counts.keys()].filter((b) => counts[b] === count);
  const starts = members.map((b) => lengths[b]!);
  return {
    tokens: count,
    starts: ints(starts, [members.length], device),
    keyLengths: ints(
      starts.map((start) => start + count),
      [members.length],
      device,
    ),
    pages: ints(
      members.flatMap((b) => Array.from({ length: 13 }, (_, i) => 13 * b + i)),
      [members.length, 13],
      device,
    ),
  };
}

function ints(values: number[], shape: number[], device: string): IntTensor {
  return tensor(Int32Array.from(values), shape, { device, dtype: "i32" });
}

/** Bytes of the logits in f32, which tell 0 from -0. */
async function bytesOf(body: () => FloatTensor): Promise<Buffer> {
  using logits = noGrad(() => scope(() => body().to("f32")));
  return Buffer.from((await logits.data()).buffer);
}
