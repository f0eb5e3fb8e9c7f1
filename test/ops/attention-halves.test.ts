/** Keys and values in 16 bits beside queries in f32: what is written, and attention to it. */
import { expect, test } from "vitest";
import { randn, tensor, zeros } from "../../lib/core/creation.js";
import { attention } from "../../lib/ops/attention.js";
import { alibiSlopes } from "../../lib/ops/attention-masks.js";
import { cacheWrite } from "../../lib/ops/cache-write.js";
import { keep, scope } from "../../lib/core/scope.js";
import type { FloatTensor, IntTensor } from "../../lib/core/tensor.js";
import { reference } from "../support/attention.js";
import { expectNear } from "../support/close.js";
import { nd } from "../support/nd.js";
import { Random } from "../support/random.js";
import { productTargets, targets } from "../support/targets.js";

const halves = ["bf16", "f16"] as const;

test.for(targets)("cacheWrite rounds f32 to a cache in 16 bits on $name", async ({ select, device }) => {
  select();
  const random = new Random(8);
  for (const dtype of halves)
    for (const D of [1, 7, 16, 33, 80])
      for (const paged of [false, true]) {
        const [B, T, H, S] = [2, 5, 3, paged ? 4 : 12];
        const special = [NaN, Infinity, -0, 65519, 65520, 1e-7, 3e38];
        const given = Float32Array.from({ length: B * T * H * D }, (_, i) =>
          i % 11 === 3 ? special[i % special.length]! : 8 * random.uniform() - 4,
        );
        // The heads come before the tokens in memory, as in a part of a projection.
        using memory = tensor(given, [B, H, T, D], { device });
        using values = memory.viewAs([B, T, H, D], [H * T * D, D, T * D, 1]);
        const [starts, table] = [
          [3, 6],
          [5, 0, 4, 1, 3, 2],
        ];
        using pages = paged ? tensor(Int32Array.from(table), [B, 3], { device }) : null;
        using cache = zeros([paged ? 6 : B, S, H, D], { device, dtype });
        using at = tensor(Int32Array.from(starts), [B], { device });
        cacheWrite(cache, values, at, pages);
        using rounded = memory.to(dtype);
        const from = await rounded.data();
        const expected = new Float32Array(cache.size);
        for (let i = 0; i < from.length; i++) {
          const [b, h, t, d] = [Math.floor(i / (H * T * D)), Math.floor(i / (T * D)) % H, Math.floor(i / D) % T, i % D];
          const token = starts[b]! + t;
          const place = paged ? table[b * 3 + Math.floor(token / S)]! * S + (token % S) : b * S + token;
          expected[(place * H + h) * D + d] = from[i]!;
        }
        expect([...(await cache.data())], `${D} ${dtype}`).toEqual([...expected]);
      }
});

/** Head sizes of all kernels for a device, and others. */
const widths = [4, 32, 33, 64, 80, 128, 200, 300];

test.for(productTargets)(
  "attention has the bits that it has with copies in f32 on $name",
  async ({ select, device }) => {
    select();
    const random = new Random(9);
    const pick = <T>(...values: T[]): T => values[random.integer(values.length)]!;
    const each = halves.flatMap((dtype) => widths.map((width) => ({ dtype, width })));
    for (const [i, { dtype, width }] of each.entries()) {
      const [queries, heads, groups] = [pick(1, 1, 2, 7, 40), pick(1, 2), pick(1, 2, 5)];
      // A sequence may be longer than a split of its keys.
      const [size, columns] = i % 5 === 0 ? [64, 5] : [pick(1, 5, 16), random.integer(4) + 1];
      const lengths = Array.from({ length: pick(1, 2) }, () => random.integer(columns * size + 1));
      const count = lengths.length * columns;
      const table = Int32Array.from({ length: count }, (_, j) => j).toSorted(() => random.uniform() - 0.5);
      const rules = { causal: pick(true, true, false), window: pick(0, 0, 3, 50), softcap: pick(0, 0, 5) };
      const queryStarts = lengths.map((length) => Math.max(0, length - queries));
      let label = "";
      const outputs = scope(() => {
        const ints = (values: ArrayLike<number>, shape = [values.length]): IntTensor =>
          tensor(Int32Array.from(values), shape, { device });
        const slopes = pick(null, alibiSlopes(heads * groups, { device }));
        const masks = { ...rules, keyLengths: ints(lengths), queryStarts: ints(queryStarts), slopes };
        label = JSON.stringify({
          dtype,
          width,
          queries,
          heads,
          groups,
          size,
          lengths,
          ...rules,
          slopes: slopes !== null,
        });
        /** Returns keys or values in pages, and in one piece in f32. What no sequence has is NaN. */
        const makeKeys = (): [FloatTensor, FloatTensor] => {
          const paged = new Float32Array(count * size * heads * width).fill(NaN);
          const dense = paged.slice();
          const row = heads * width;
          for (const [b, length] of lengths.entries())
            for (let j = 0; j < length; j++)
              for (let d = 0; d < row; d++) {
                const token = table[b * columns + Math.floor(j / size)]! * size + (j % size);
                const value = 2 * random.uniform() - 1;
                paged[token * row + d] = value;
                dense[(b * columns * size + j) * row + d] = value;
              }
          const inOne = tensor(dense, [lengths.length, columns * size, heads, width], { device, dtype });
          return [tensor(paged, [count, size, heads, width], { device, dtype }), inOne.to("f32")];
        };
        const [[k, denseK], [v, denseV]] = [makeKeys(), makeKeys()];
        const q = randn([lengths.length, queries, heads * groups, width], { seed: i, device });
        const pages = ints(table, [lengths.length, columns]);
        return [
          attention(q, k, v, { ...masks, pages }),
          attention(q, denseK.to(dtype), denseV.to(dtype), masks),
          attention(q, denseK, denseV, masks),
        ]
          .concat([q, denseK, denseV], slopes ?? [])
          .map((x) => keep(x));
      });
      const [found, inOne, same, q, k, v, slopes] = await Promise.all(outputs.map((x) => x.data()));
      const shapes = outputs.map((x) => x.shape);
      for (const x of outputs) x.dispose();
      expect([...found!], label).toEqual([...same!]);
      expect([...inOne!], label).toEqual([...same!]);
      const exact = reference(nd(shapes[3]!, q!), nd(shapes[4]!, k!), nd(shapes[5]!, v!), {
        ...{ ...rules, keyLengths: lengths, queryStarts },
        ...(slopes && { slopes: [...slopes] }),
      });
      expectNear(label, found!, exact.data, 2 ** -19);
    }
  },
);

test("keys in 16 bits need operands without a gradient, one dtype, and no mask of blocks", () => {
  const keys = (dtype: "f32" | "bf16" | "f16"): FloatTensor => zeros([1, 4, 2, 8], { dtype });
  const q = keys("f32");
  const learned = keys("f32");
  learned.requiresGrad = true;
  const refused = /expected no gradient with keys in 16 bits beside queries in f32, got an operand that needs one/;
  expect(() => attention(learned, keys("f16"), keys("f16"))).toThrow(refused);
  const blocks = { mask: tensor(new Uint8Array(1), [1, 1, 1, 1]), size: 4 };
  expect(() => attention(q, keys("bf16"), keys("bf16"), { blocks })).toThrow(
    /expected no block_mask with keys in bf16, got one/,
  );
  expect(() => attention(q, keys("bf16"), keys("f16"))).toThrow(/attention.*expected v of dtype bf16, got f16/);
  expect(() => attention(q, keys("f16"), keys("f32"))).toThrow(/attention: expected k of dtype f32, got f16/);
  expect(() => attention(keys("bf16"), keys("f16"), keys("f16"))).toThrow(
    /attention: expected k of dtype bf16, got f16/,
  );
  expect(() => cacheWrite(keys("f16"), keys("bf16"))).toThrow(/cacheWrite: expected values of dtype f16, got bf16/);
});
