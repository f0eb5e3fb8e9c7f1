// Attention without masks, and with a bias, is tested as `biasedAttention`.
import { expect, test } from "vitest";
import { attention } from "../../lib/ops/attention.js";
import { mul } from "../../lib/ops/binary.js";
import { unfusedAttention } from "../../lib/ops/unfused-attention.js";
import { scope } from "../../lib/core/scope.js";
import { randn, tensor, zeros } from "../../lib/core/creation.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { type MaskCase, masked } from "../support/attention.js";
import { expectClose } from "../support/close.js";
import { expectError } from "../support/errors.js";
import { opTest } from "../support/op-test.js";
import { onEachDevice } from "../support/targets.js";

const cases: MaskCase[] = [
  [
    "both sides, a sequence without keys",
    [2, 3, 7, 2, 2, 3],
    {
      window: 4,
      keyLengths: [7, 0],
      blocks: { mask: [1, 0, 1, 0, 1, 1, 1, 0], shape: [1, 2, 2, 2], size: 4 },
    },
  ],
  [
    "everything",
    [2, 3, 9, 4, 2, 3],
    {
      causal: true,
      window: 6,
      keyRanges: [0, 9, 2, 4, -3, 99, 5, 6, 1, 8, 4, 1],
      keyLengths: [9, 6],
      queryStarts: [5, 2],
      slopes: [0.2, 0.1, 0.05, 0],
      softcap: 2,
      blocks: { mask: [1, 1, 0, 1, 1, 1, 1, 1, 1], shape: [1, 1, 3, 3], size: 3 },
    },
  ],
];

opTest({
  name: "unfusedAttention",
  ...masked(cases, unfusedAttention),
  tolerance: { out: { relative: 8, absolute: 16 }, grad: { relative: 8, absolute: 64 } },
  // Scores, weights, the output and their gradients are rounded.
  roundings: { out: { relative: 2, absolute: 6 }, grad: { relative: 4, absolute: 16 } },
});

onEachDevice((device) => {
  const [q, k, v] = [0, 1, 2].map((seed) => (): FloatTensor => randn([2, 5, 2, 4], { seed, device }));

  test("shows scores and weights, and continues with their replacements", async () => {
    const seen: Record<string, Float32Array> = {};
    const reads: Promise<void>[] = [];
    const read = (name: string, x: FloatTensor): FloatTensor => {
      reads.push(x.data().then((data) => void (seen[name] = data)));
      return x;
    };
    using out = scope(() =>
      unfusedAttention(q!(), k!(), v!(), {
        causal: true,
        onScores: (scores) => mul(read("scores", scores), 2),
        onPattern: (pattern) => read("pattern", pattern),
      }),
    );
    using twice = scope(() => attention(q!(), k!(), v!(), { causal: true, scale: 1 }));
    expectClose("output", await out.data(), await twice.data(), { relative: 8, absolute: 16 });
    await Promise.all(reads);
    for (let row = 0; row < 2 * 2 * 5; row++) {
      const of = (name: string): number[] => [...seen[name]!.subarray(5 * row, 5 * row + 5)];
      const exps = of("scores").map((score) => Math.exp(2 * score));
      const total = exps.reduce((a, b) => a + b, 0);
      expectClose(
        "weights",
        of("pattern"),
        exps.map((e) => e / total),
        { relative: 64, absolute: 0 },
      );
      // Query i sees keys 0 to i.
      expect(of("scores").map((score) => score > -Infinity)).toEqual([0, 1, 2, 3, 4].map((key) => key <= row % 5));
    }
  });

  test("refuses the same input as attention", () => {
    scope(() => {
      const x = zeros([2, 5, 2, 4], { device });
      const keyLengths = tensor(Int32Array.of(1), [1], { device });
      expectError(() => unfusedAttention(x, x, x, { keyLengths }), "ERR_SHAPE", /keyLengths/);
      expectError(() => unfusedAttention(x, x, x, { window: -1 }), "ERR_RANGE", /window/);
      expectError(() => unfusedAttention(x, zeros([2, 5, 3, 4], { device }), x), "ERR_SHAPE");
    });
  });
});
