/**
 * Comparison with PyTorch. test/fixtures/generate.py wrote the results in float64 and the errors of PyTorch's own
 * float32. The root mean square of heed's errors may be at most twice PyTorch's. The largest error, which depends more
 * on chance, may be at most four times as large, so that no element is far off. PyTorch's error counts as at least one
 * rounding, because on a few dozen numbers it can be smaller by luck.
 */
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { afterAll, describe, expect, test } from "vitest";
import { native } from "../../lib/core/native.js";
import { add, mul } from "../../lib/ops/binary.js";
import { sum } from "../../lib/ops/reduce.js";
import { scope } from "../../lib/core/scope.js";
import { tensor } from "../../lib/core/creation.js";
import type { FloatTensor, IntTensor } from "../../lib/core/tensor.js";
import { u } from "./close.js";
import { maxAbs } from "./nd.js";
import { bestIsa, targets } from "./targets.js";

export interface FixtureArray {
  shape: number[];
  dtype: "f32" | "f64" | "i32";
  /** Base64 of little-endian numbers. */
  data: string;
}

export interface FixtureResult extends FixtureArray {
  torchError: { rms: number; max: number };
}

export interface FixtureCase {
  name: string;
  options: Record<string, unknown>;
  inputs: Record<string, FixtureArray>;
  upstream: FixtureArray[];
  outputs: FixtureResult[];
  grads: Record<string, FixtureResult>;
}

/** Returns the content of a packed file below test/fixtures; `name` has no .json.gz. */
export function readFixture(name: string): unknown {
  const packed = readFileSync(new URL(`../fixtures/${name}.json.gz`, import.meta.url));
  return JSON.parse(gunzipSync(packed).toString());
}

export function decode({ dtype, data }: FixtureArray): Float32Array | Float64Array | Int32Array {
  const bytes = Uint8Array.from(Buffer.from(data, "base64")).buffer;
  return dtype === "f32" ? new Float32Array(bytes) : dtype === "f64" ? new Float64Array(bytes) : new Int32Array(bytes);
}

export function decodeFloats(array: FixtureArray, device: string): FloatTensor {
  return tensor(decode(array), array.shape, { device, dtype: "f32" });
}

export function decodeInts(array: FixtureArray, device: string): IntTensor {
  return tensor(decode(array), array.shape, { device, dtype: "i32" });
}

const rms = (values: ArrayLike<number>): number =>
  Math.sqrt(Array.from(values, (x) => x * x).reduce((a, b) => a + b, 0) / Math.max(1, values.length));

/** Expects at most twice PyTorch's error, as the header of this file describes. */
export function expectLikeTorch(label: string, actual: ArrayLike<number>, expected: FixtureResult): void {
  const exact = decode(expected);
  expect(actual.length, `${label}: number of elements`).toBe(exact.length);
  const errors = Array.from(exact, (value, i) => actual[i]! - value);
  const { torchError } = expected;
  expect(rms(errors), `${label}: root mean square of the error`).toBeLessThanOrEqual(
    2 * Math.max(torchError.rms, u * rms(exact)),
  );
  expect(maxAbs(errors), `${label}: largest error`).toBeLessThanOrEqual(
    4 * Math.max(torchError.max, u * maxAbs(exact)),
  );
}

/** Registers a test for each case of ops/<name>.json.gz: `ours` gets its inputs by name, and the case. */
export function fixtureTest(
  name: string,
  ours: (
    inputs: Record<string, FloatTensor>,
    ints: Record<string, IntTensor>,
    at: FixtureCase,
  ) => FloatTensor | FloatTensor[],
): void {
  const { cases } = readFixture(`ops/${name}`) as { cases: FixtureCase[] };
  describe(`${name} beside PyTorch`, () => {
    afterAll(() => native.selectIsa(bestIsa));
    for (const at of cases)
      test.for(targets)(`${at.name} on $name`, async ({ select, device }) => {
        select();
        const inputs: Record<string, FloatTensor> = {};
        const ints: Record<string, IntTensor> = {};
        for (const [key, array] of Object.entries(at.inputs))
          if (array.dtype === "i32") ints[key] = decodeInts(array, device);
          else {
            inputs[key] = decodeFloats(array, device);
            inputs[key].requiresGrad = Object.hasOwn(at.grads, key);
          }
        const outputs = scope(() => {
          const result = ours(inputs, ints, at);
          const outs = Array.isArray(result) ? result : [result];
          outs
            .map((out, i) => sum(mul(out, decodeFloats(at.upstream[i]!, device))))
            .reduce((a, b) => add(a, b))
            .backward();
          return outs;
        });
        for (const [i, out] of outputs.entries()) {
          expect(out.shape).toEqual(at.outputs[i]!.shape);
          expectLikeTorch(`output ${i}`, await out.data(), at.outputs[i]!);
        }
        for (const [key, expected] of Object.entries(at.grads)) {
          expect(inputs[key]!.grad!.shape).toEqual(expected.shape);
          expectLikeTorch(`gradient of ${key}`, await inputs[key]!.grad!.data(), expected);
        }
        for (const t of [...outputs, ...Object.values(inputs), ...Object.values(ints)]) t.dispose();
      });
  });
}
