// Runs the addon, and compares its results with those of heed's own functions.
import { createRequire } from "node:module";
import { attention, fromNative, matmul, nativeInterface, tensor, toNative } from "heed";

const require = createRequire(import.meta.url);
const addon = require("./build/Release/addon.node");
addon.open(nativeInterface());

/** Returns what the addon computes with, as it makes it. */
const waves = (count, step) =>
  Float32Array.from({ length: count }, (_, i) => Math.sin(Math.fround(Math.fround(step) * i)));

/** Checks that two lists of numbers are nearly equal. */
function expectNear(what, numbers, expected) {
  const distance = Math.max(...expected.map((value, i) => Math.abs(value - numbers[i])));
  if (numbers.length !== expected.length || !(distance < 1e-4))
    throw new Error(`${what}: expected nearly the same numbers, got a difference of ${distance}`);
  console.log(`${what}: ${numbers.length} numbers, as heed computes them`);
}

const device = "cpu";
const product = await addon.multiply(5, 7, 3);
const a = tensor(waves(35, 0.1), [5, 7], { device });
const b = tensor(waves(21, 0.2), [7, 3], { device });
expectNear("multiply", product, await matmul(a, b).data());

const [tokens, heads, size] = [9, 2, 4];
const packed = waves(tokens * 3 * heads * size, 0.3);
const part = (which) => {
  const width = heads * size;
  const rows = Array.from({ length: tokens }, (_, t) => [
    ...packed.subarray((3 * t + which) * width, (3 * t + which + 1) * width),
  ]);
  return tensor(rows.flat(), [1, tokens, heads, size], { device });
};
const attended = await addon.attend(tokens, heads, size);
expectNear("attend", attended, await attention(part(0), part(1), part(2), { causal: true }).data());

// Tensors of JavaScript go through the addon and back without a copy, on any device.
const x = tensor([1, 2, 3]);
const y = fromNative(addon.twice(toNative(x)));
expectNear("twice", await y.data(), Float32Array.of(2, 4, 6));

try {
  addon.twice(nativeInterface());
} catch (error) {
  console.log(`bad input: ${error.code}: ${error.message}`);
}
