/** Tests that the TypeScript generated from ops.def and kinds.def agrees with the addon. */
import { expect, test } from "vitest";
import { zeros } from "../lib/core/creation.js";
import { native, ops } from "../lib/core/native.js";
import {
  binaryKinds,
  blockKinds,
  dtypes,
  nativeActivations,
  reduceKinds,
  unaryKinds,
} from "../lib/core/native-kinds.js";
import { type Handle, namedOps, type NativeOps, type View } from "../lib/core/native-ops.js";
import { expectError } from "./support/errors.js";

test("named operands arrive at their places in ops.def; omitted ones arrive as nothing, false and no activation", () => {
  const calls: unknown[][] = [];
  const record =
    (name: string) =>
    (...values: unknown[]): void =>
      void calls.push([name, ...values]);
  const recorded = namedOps(new Proxy({}, { get: (_, name) => record(String(name)) }) as NativeOps);
  const view = (name: string): View => ({ handle: name as unknown as Handle });
  const [out, a, b, bias] = ["out", "a", "b", "bias"].map(view) as [View, View, View, View];
  recorded.gemm({ accumulate: true, b, a, out, sum: null, bias });
  recorded.gemm({ out, a, b, activation: 2, sumOfA: true, accumulateSum: true, transposeB: true });
  recorded.global_norm({ norm: out, grads: [b, a] });
  expect(calls).toEqual([
    ["gemm", "out", null, "a", "b", "bias", null, null, null, 0, false, true, false, false, false],
    ["gemm", "out", null, "a", "b", null, null, null, null, 2, true, false, true, false, true],
    ["global_norm", "out", ["b", "a"]],
  ]);
});

test("the addon has the same numbers of dtypes, activations and kinds", () => {
  using x = zeros([1, 1]);
  using none = zeros([1, 0]);
  using blocks = zeros([1, 0], { dtype: "u8" });
  const counts: [string, Record<string, number>, (number: number) => void][] = [
    ["kind", unaryKinds, (kind) => ops.unary({ out: x, inp: x, kind })],
    ["kind", binaryKinds, (kind) => ops.binary({ out: x, a: x, b: x, kind })],
    ["kind", reduceKinds, (kind) => ops.reduce({ out: x, inp: x, kind })],
    ["a format", blockKinds, (format) => ops.dequantize_blocks({ out: none, blocks, format })],
    ["an activation", nativeActivations, (activation) => ops.gated({ out: x, gate: x, up: x, activation })],
  ];
  for (const [what, numbers, call] of counts) {
    const count = Object.keys(numbers).length;
    expect(Object.values(numbers)).toEqual([...Array(count).keys()]);
    call(count - 1);
    expectError(() => call(count), "ERR_ARGUMENT", new RegExp(`expected ${what} from 0 to ${count - 1}, got ${count}`));
  }
  const { length } = dtypes;
  const wrong = (): unknown => native.alloc(0, length, [1]);
  expectError(wrong, "ERR_DTYPE", new RegExp(`expected a dtype from 0 to ${length - 1}, got ${length}`));
});
