import { expect, test } from "vitest";
import { attention } from "../../lib/ops/attention.js";
import { biasedAttention } from "../../lib/ops/biased-attention.js";
import { mul } from "../../lib/ops/binary.js";
import { sum } from "../../lib/ops/reduce.js";
import { scope } from "../../lib/core/scope.js";
import { randn, tensor, zeros } from "../../lib/core/creation.js";
import { expectClose } from "../support/close.js";
import { expectError } from "../support/errors.js";
import { dot, type Nd, normal } from "../support/nd.js";
import { opTest } from "../support/op-test.js";
import { Random } from "../support/random.js";
import { onEachDevice } from "../support/targets.js";

const random = new Random(47);

type Input = "q" | "k" | "v" | "bias";
interface Options {
  scale?: number;
}

/** The definition of attention with a bias, one query and one head after the other. */
function reference({ q, k, v, bias }: Record<Input, Nd>, _: unknown, { scale }: Options): Nd {
  const [batch, queries, heads, size] = q.shape as [number, number, number, number];
  const keys = k.shape[1]!;
  const row = ({ shape, data }: Nd, b: number, t: number, h: number): Float64Array => {
    const at = ((b * shape[1]! + t) * heads + h) * size;
    return data.subarray(at, at + size);
  };
  const biasAt = (...place: number[]): number => {
    const own = place.slice(place.length - bias.shape.length);
    return bias.data[own.reduce((at, i, axis) => at * bias.shape[axis]! + (bias.shape[axis] === 1 ? 0 : i), 0)]!;
  };
  const out = new Float64Array(q.data.length);
  for (let b = 0; b < batch; b++)
    for (let i = 0; i < queries; i++)
      for (let h = 0; h < heads; h++) {
        const scores = Array.from({ length: keys }, (_, j) => {
          return dot(row(q, b, i, h), row(k, b, j, h)) * (scale ?? 1 / Math.sqrt(size)) + biasAt(b, h, i, j);
        });
        const highest = Math.max(...scores);
        const weights = scores.map((score) => Math.exp(score - highest));
        const total = weights.reduce((a, x) => a + x, 0);
        for (let d = 0; d < size; d++)
          out[((b * queries + i) * heads + h) * size + d] = weights.reduce(
            (sum, weight, j) => sum + (weight / total) * row(v, b, j, h)[d]!,
            0,
          );
      }
  return { shape: q.shape, data: out };
}

const caseOf = (
  name: string,
  B: number,
  Tq: number,
  Tk: number,
  H: number,
  D: number,
  bias: number[],
  scale?: number,
) => ({
  name,
  inputs: {
    q: normal(random, [B, Tq, H, D]),
    k: normal(random, [B, Tk, H, D], { scale: 0.5 }),
    v: normal(random, [B, Tk, H, D]),
    bias: normal(random, bias),
  } satisfies Record<Input, Nd>,
  options: scale === undefined ? {} : { scale },
});

opTest<Input, never, Options>({
  name: "biasedAttention",
  cases: [
    caseOf("one of each", 1, 1, 1, 1, 1, [1, 1]),
    caseOf("a bias of each batch", 2, 3, 5, 2, 7, [2, 2, 3, 5]),
    caseOf("a bias for all", 2, 5, 5, 3, 4, [3, 5, 5], 1),
    caseOf("a bias of keys", 3, 2, 9, 2, 5, [3, 1, 1, 9], 0.5),
    caseOf("33 by 31", 1, 33, 31, 1, 17, [1, 33, 31]),
  ],
  ours: ({ q, k, v, bias }, _, options) => biasedAttention(q, k, v, bias, options),
  reference,
  // Four operations in a row with sums of up to 33 terms; an error of a score changes a weight by about the same
  // amount.
  tolerance: { out: { relative: 8, absolute: 16 }, grad: { relative: 8, absolute: 64 } },
  // Scores, weights, the output and their gradients are rounded.
  roundings: { out: { relative: 2, absolute: 6 }, grad: { relative: 4, absolute: 16 } },
  single: false,
});

onEachDevice((device) => {
  test("with the bias of a mask it equals tiled attention, and hidden keys get no gradient", async () => {
    const shape = [2, 5, 2, 4];
    const lengths = [3, 0];
    const mask = Float32Array.from({ length: 2 * 5 }, (_, i) => (i % 5 < lengths[Math.floor(i / 5)]! ? 0 : -Infinity));
    const results = [];
    for (const tiled of [true, false]) {
      const inputs = [1, 2, 3].map((seed) => randn(shape, { seed, device }));
      for (const input of inputs) input.requiresGrad = true;
      const [q, k, v] = inputs;
      using out = scope(() => {
        const y = tiled
          ? attention(q!, k!, v!, { keyLengths: tensor(Int32Array.from(lengths), [2], { device }) })
          : biasedAttention(q!, k!, v!, tensor(mask, [2, 1, 1, 5], { device }));
        sum(mul(y, randn(shape, { seed: 4, device }))).backward();
        return y;
      });
      results.push(await Promise.all([out.data(), ...inputs.map((input) => input.grad!.data())]));
      for (const input of inputs) input.dispose();
    }
    for (const [i, name] of ["output", "dq", "dk", "dv"].entries())
      expectClose(name, results[1]![i]!, results[0]![i]!, { relative: 8, absolute: 16 });
    // A sequence without keys.
    expect([...results[1]![0].slice(5 * 8)]).toEqual(Array(5 * 8).fill(0));
  });

  test("drops weights by the seed", async () => {
    const of = (t: number) => randn([1, t, 1, 2], { seed: t, device });
    const run = async (options: object): Promise<number[]> => {
      using out = scope(() => biasedAttention(of(2), of(9), of(9), zeros([2, 9], { device }), options));
      return [...(await out.data())];
    };
    expect(await run({ dropout: 1 })).toEqual([0, 0, 0, 0]);
    expect(await run({ dropout: 0.5, seed: 1 })).toEqual(await run({ dropout: 0.5, seed: 1 }));
    expect(await run({ dropout: 0.5, seed: 1 })).not.toEqual(await run({ dropout: 0.5, seed: 2 }));
  });

  test("refuses input that does not fit", () => {
    scope(() => {
      const x = (...shape: number[]) => zeros(shape, { device });
      const [q, k] = [x(2, 3, 2, 4), x(2, 5, 2, 4)];
      expectError(() => biasedAttention(q, k, k, x(4, 5)), "ERR_SHAPE", /stretch|broadcast/);
      expectError(() => biasedAttention(q, k, k, x(7, 2, 2, 3, 5)), "ERR_SHAPE", /bias to broadcast to \[2, 2, 3, 5\]/);
      expectError(() => biasedAttention(q, x(2, 5, 1, 4), k, x(5)), "ERR_SHAPE", /k of shape/);
      expectError(() => biasedAttention(q, k, q, x(5)), "ERR_SHAPE", /v of shape/);
      expectError(() => biasedAttention(x(3, 4), k, k, x(5)), "ERR_SHAPE", /q of shape/);
      expectError(() => biasedAttention(q, k, k, x(5), { scale: NaN }), "ERR_RANGE", /scale/);
      expectError(() => biasedAttention(q, k, k, x(5), { dropout: 2 }), "ERR_RANGE");
      expectError(() => biasedAttention(q, k, k, x(5).to("bf16")), "ERR_DTYPE");
    });
  });
});
