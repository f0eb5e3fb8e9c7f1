/** Keys and values in 8 bits: what is written, and attention to it, compared with the numbers that the codes stand for. */
import { expect, test } from "vitest";
import { randn, tensor, zeros } from "../../lib/core/creation.js";
import type { FloatDType } from "../../lib/core/dtype.js";
import { ops } from "../../lib/core/native.js";
import { attentionInto } from "../../lib/ops/attention.js";
import { alibiSlopes } from "../../lib/ops/attention-masks.js";
import { cacheWriteInto } from "../../lib/ops/cache-write.js";
import type { QuantizedKeys } from "../../lib/ops/quantized-keys.js";
import { keep, scope } from "../../lib/core/scope.js";
import { allocate, type FloatTensor, type IntTensor } from "../../lib/core/tensor.js";
import { reference } from "../support/attention.js";
import { expectNear } from "../support/close.js";
import { nd } from "../support/nd.js";
import { Random } from "../support/random.js";
import { productTargets, type Target, targets } from "../support/targets.js";

type Device = Target["device"];

function codesOf(bytes: Uint8Array): Int8Array {
  return new Int8Array(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** Returns the scale and the codes of a head's numbers, which are f32. */
function encode(values: Float32Array): [number, number[]] {
  if (!values.every(Number.isFinite)) return [NaN, Array.from(values, () => 0)];
  const scale = Math.fround(Math.max(...values.map(Math.abs)) / 127);
  if (scale < 2 ** -126) return [0, Array.from(values, () => 0)];
  return [scale, Array.from(values, (x) => roundEven(Math.fround(x / scale)))];
}

function roundEven(x: number): number {
  const low = Math.floor(x);
  const up = x - low > 0.5 || (x - low === 0.5 && low % 2 !== 0);
  return (up ? low + 1 : low) + 0; // no -0
}

test.for(targets)("cacheWrite stores codes and scales on $name", async ({ select, device }) => {
  select();
  const random = new Random(4);
  for (const [D, dtype] of [
    [1, "f32"],
    [7, "bf16"],
    [16, "f16"],
    [33, "f32"],
    [64, "bf16"],
    [80, "f16"],
  ] as const)
    for (const paged of [false, true]) {
      const [B, T, H, S] = [2, 5, 3, paged ? 4 : 12];
      const scales = [1, 1e-30, 1e-41, 0, dtype === "f16" ? 6e4 : 1e38];
      const given = Float32Array.from({ length: B * T * H * D }, (_, i) => {
        const row = Math.floor(i / D);
        if (row % 7 === 3 && i % D === D - 1) return [NaN, Infinity, -Infinity][row % 3]!;
        return (2 * random.uniform() - 1) * scales[row % scales.length]!;
      });
      // The heads come before the tokens in memory, as in a part of a projection.
      using memory = tensor(given, [B, H, T, D], { device, dtype });
      using values = memory.viewAs([B, T, H, D], [H * T * D, D, T * D, 1]);
      const starts = [3, 6];
      const table = [5, 0, 4, 1, 3, 2];
      using pages = paged ? tensor(Int32Array.from(table), [B, 3], { device }) : null;
      const shape = [paged ? 6 : B, S, H];
      using codes = zeros([...shape, D], { device, dtype: "u8" });
      using found = zeros(shape, { device });
      using at = tensor(Int32Array.from(starts), [B], { device });
      cacheWriteInto({ codes, scales: found }, values, at, pages);
      const expected = { codes: new Int8Array(codes.size), scales: new Float32Array(found.size) };
      const rounded = await memory.data();
      for (let b = 0; b < B; b++)
        for (let t = 0; t < T; t++)
          for (let h = 0; h < H; h++) {
            const from = ((b * H + h) * T + t) * D;
            const [scale, list] = encode(rounded.subarray(from, from + D));
            const token = starts[b]! + t;
            const place = paged ? table[b * 3 + Math.floor(token / S)]! * S + (token % S) : b * S + token;
            expected.scales[place * H + h] = scale;
            expected.codes.set(list, (place * H + h) * D);
          }
      expect([...(await found.data())], `scales of ${D} ${dtype}`).toEqual([...expected.scales]);
      expect([...codesOf(await codes.data())], `codes of ${D} ${dtype}`).toEqual([...expected.codes]);
    }
});

interface Shape {
  lengths: number[];
  columns: number;
  size: number;
  heads: number;
  width: number;
  dtype: FloatDType;
}

/**
 * Makes keys or values as codes in the pages of a table, and the numbers that they stand for, [B, Tk, Hkv, D]. What no
 * sequence has is NaN.
 */
function makeKeys(random: Random, table: Int32Array, shape: Shape, device: Device): [QuantizedKeys, FloatTensor] {
  const { lengths, columns, size, heads, width, dtype } = shape;
  const count = lengths.length * columns;
  const codes = Int8Array.from({ length: count * size * heads * width }, () => random.integer(255) - 127);
  const scales = new Float32Array(count * size * heads).fill(NaN);
  const dense = new Float32Array(codes.length).fill(NaN);
  lengths.forEach((length, b) => {
    for (let j = 0; j < length; j++)
      for (let h = 0; h < heads; h++) {
        const row = (table[b * columns + Math.floor(j / size)]! * size + (j % size)) * heads + h;
        const scale = (scales[row] = Math.fround((0.5 + random.uniform()) / 64));
        const to = ((b * columns * size + j) * heads + h) * width;
        for (let d = 0; d < width; d++) dense[to + d] = codes[row * width + d]! * scale;
      }
  });
  return [
    {
      codes: tensor(new Uint8Array(codes.buffer), [count, size, heads, width], { device }),
      scales: tensor(scales, [count, size, heads], { device }),
    },
    tensor(dense, [lengths.length, columns * size, heads, width], { device, dtype }),
  ];
}

/** Largest error as a share of the largest number: weights and results are rounded. */
const allowed = { f32: 2 ** -19, bf16: 2 ** -7, f16: 2 ** -10 };
/** Head sizes of all kernels for a device, and others. */
const widths = [4, 32, 33, 64, 80, 128, 192, 200, 256, 300];

test.for(productTargets)("attention to codes is attention to their numbers on $name", async ({ select, device }) => {
  select();
  const random = new Random(6);
  const pick = <T>(...values: T[]): T => values[random.integer(values.length)]!;
  const each = (["f32", "bf16", "f16"] as const).flatMap((dtype) => widths.map((width) => ({ dtype, width })));
  for (const [i, { dtype, width }] of each.entries()) {
    let label = "";
    const [queries, heads, groups] = [pick(1, 1, 2, 7, 40), pick(1, 2), pick(1, 2, 5)];
    // A sequence may be longer than a split of its keys.
    const [size, columns] = i % 5 === 0 ? [64, 5] : [pick(1, 5, 16), random.integer(4) + 1];
    const lengths = Array.from({ length: pick(1, 2) }, () => random.integer(columns * size + 1));
    const table = Int32Array.from({ length: lengths.length * columns }, (_, j) => j).toSorted(
      () => random.uniform() - 0.5,
    );
    const rules = {
      causal: pick(true, true, false),
      window: pick(0, 0, 3, 50),
      softcap: pick(0, 0, 5),
    };
    const queryStarts = lengths.map((length) => Math.max(0, length - queries));
    const outputs = scope(() => {
      const ints = (values: ArrayLike<number>, shape = [values.length]): IntTensor =>
        tensor(Int32Array.from(values), shape, { device });
      const shape: Shape = { lengths, columns, size, heads, width, dtype };
      const [k, denseK] = makeKeys(random, table, shape, device);
      const [v, denseV] = makeKeys(random, table, shape, device);
      const q = randn([lengths.length, queries, heads * groups, width], { seed: i, device, dtype });
      const slopes = pick(null, alibiSlopes(heads * groups, { device }));
      const masks = { ...rules, keyLengths: ints(lengths), queryStarts: ints(queryStarts), slopes };
      label = JSON.stringify({ ...shape, queries, groups, ...rules, slopes: slopes !== null });
      const pages = ints(table, [lengths.length, columns]);
      return [attentionInto(null, q, k, v, { ...masks, pages }), attentionInto(null, q, denseK, denseV, masks)]
        .concat([q, denseK, denseV], slopes ?? [])
        .map((x) => keep(x));
    });
    const [found, same, q, k, v, slopes] = await Promise.all(outputs.map((x) => x.data()));
    const shapes = outputs.map((x) => x.shape);
    for (const x of outputs) x.dispose();
    expect([...found!], label).toEqual([...same!]);
    const exact = reference(nd(shapes[2]!, q!), nd(shapes[3]!, k!), nd(shapes[4]!, v!), {
      ...{ ...rules, keyLengths: lengths, queryStarts },
      ...(slopes && { slopes: [...slopes] }),
    });
    expectNear(label, found!, exact.data, allowed[dtype]);
  }
});

test("keys in 8 bits need queries without a gradient, no mask of blocks, and scales that fit", () => {
  const codes = (): QuantizedKeys => ({
    codes: allocate([1, 4, 2, 8], "u8", zeros([1]).device),
    scales: zeros([1, 4, 2]),
  });
  const [k, v, q] = [codes(), codes(), zeros([1, 4, 2, 8])];
  const learned = zeros([1, 4, 2, 8]);
  learned.requiresGrad = true;
  expect(() => attentionInto(null, learned, k, v, {})).toThrow(/expected no gradient with keys in 8 bits/);
  const mask = tensor(new Uint8Array(1), [1, 1, 1, 1]);
  expect(() => attentionInto(null, q, k, v, { blocks: { mask, size: 4 } })).toThrow(
    /expected no block_mask with keys in 8 bits/,
  );
  expect(() => attentionInto(null, q, { ...k, scales: zeros([1, 4, 1]) }, v, {})).toThrow(
    /expected k_scales of shape \[1, 4, 2\], got \[1, 4, 1\]/,
  );
  const rest = { window: 0, softcap: 0, scale: 1, dropoutP: 0, seed: 0, blockSize: 0 };
  expect(() => ops.attention_forward({ out: q, q, k: k.codes, v: v.codes, kScales: k.scales, ...rest })).toThrow(
    /expected scales of keys and of values, got those of one/,
  );
  expect(() => cacheWriteInto({ codes: k.codes, scales: zeros([1, 3, 2]) }, q)).toThrow(/expected scales of shape/);
});
