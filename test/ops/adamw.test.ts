import { afterAll, describe, expect, test, vi } from "vitest";
import { native, ops } from "../../lib/core/native.js";
import { AdamW } from "../../lib/optim/adamw.js";
import { narrow } from "../../lib/ops/views.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { tensor } from "../../lib/core/creation.js";
import {
  decode,
  decodeFloats,
  expectLikeTorch,
  type FixtureArray,
  type FixtureResult,
  readFixture,
} from "../support/fixtures.js";
import { expectClose } from "../support/close.js";
import { expectError } from "../support/errors.js";
import { Random } from "../support/random.js";
import { bestIsa, targets } from "../support/targets.js";

interface Case {
  name: string;
  options: { weightDecay: number; maxNorm: number | null };
  params: FixtureArray[];
  grads: FixtureArray[][];
  /** All parameters, one after the other. */
  result: FixtureResult;
  norms: FixtureResult;
}

afterAll(() => native.selectIsa(bestIsa));

describe("ten steps of AdamW beside PyTorch", () => {
  const { cases } = readFixture("ops/adamw") as { cases: Case[] };
  for (const { name, options, params, grads, result, norms } of cases)
    test.for(targets)(`${name} on $name`, async ({ select, device }) => {
      select();
      const parameters = params.map((array) => decodeFloats(array, device));
      for (const parameter of parameters) parameter.requiresGrad = true;
      const { weightDecay, maxNorm } = options;
      using optimizer = new AdamW(
        parameters.map((parameter, i): [string, FloatTensor] => [`p${i}`, parameter]),
        { lr: 1e-2, beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay, ...(maxNorm !== null && { maxNorm }) },
      );
      const measured: number[] = [];
      for (const step of grads) {
        parameters.forEach((parameter, i) => {
          parameter.zeroGrad();
          parameter.grad = tensor(decode(step[i]!), parameter.shape, { device });
        });
        optimizer.step();
        if (optimizer.gradientNorm) measured.push(await optimizer.gradientNorm.item());
      }
      const data = await Promise.all(parameters.map((parameter) => parameter.data()));
      expectLikeTorch(
        "parameters",
        data.flatMap((values) => [...values]),
        result,
      );
      expectLikeTorch("gradient norms", measured, norms);
      for (const parameter of parameters) parameter.dispose();
    });
});

test.for(targets)("lists of uneven tensors, some of several tasks, on $name", async ({ select, device }) => {
  select();
  const sizes = [0, 1, 17, 16384, 0, 16385, 3, 33, 0];
  const random = new Random(3);
  const list = (): Float32Array[] => sizes.map((size) => Float32Array.from({ length: size }, () => random.normal()));
  const flat = (lists: Float32Array[]): number[] => lists.flatMap((values) => [...values]);
  const [start, grads] = [list(), list()];
  const parameters = start.map((x, i): [string, FloatTensor] => [`p${i}`, tensor(x, [x.length], { device })]);
  const [lr, beta1, beta2, eps, weightDecay] = [1e-2, 0.9, 0.95, 1e-8, 0.1];
  using optimizer = new AdamW(parameters, { lr, beta1, beta2, eps, weightDecay, maxNorm: 1, decays: () => true });
  for (let step = 0; step < 2; step++) {
    for (const [i, [, parameter]] of parameters.entries()) {
      parameter.requiresGrad = true;
      parameter.grad = tensor(grads[i]!, [sizes[i]!], { device });
    }
    optimizer.step();
    optimizer.zeroGrad();
  }
  const norm = Math.sqrt(flat(grads).reduce((total, g) => total + g * g, 0));
  expect(Math.abs((await optimizer.gradientNorm!.item()) / norm - 1)).toBeLessThan(2 ** -23);
  const gradients = flat(grads).map((g) => g / (norm + 1e-6));
  const expected = flat(start).map((value, i) => {
    let [p, m, v] = [value, 0, 0];
    for (let t = 1; t <= 2; t++) {
      m = beta1 * m + (1 - beta1) * gradients[i]!;
      v = beta2 * v + (1 - beta2) * gradients[i]! ** 2;
      p *= 1 - lr * weightDecay;
      p -= (lr * (m / (1 - beta1 ** t))) / (Math.sqrt(v / (1 - beta2 ** t)) + eps);
    }
    return p;
  });
  const got = flat(await Promise.all(parameters.map(([, parameter]) => parameter.data())));
  expectClose("parameters", got, expected, { relative: 16, absolute: 4 });
  for (const [, parameter] of parameters) parameter.dispose();
});

test.for(targets)("gradients are clipped by their norm plus a millionth on $name", async ({ select, device }) => {
  select();
  using parameter = tensor([0], [1], { device });
  using optimizer = new AdamW([["p", parameter]], { maxNorm: 1e-6, beta1: 0.5 });
  parameter.requiresGrad = true;
  parameter.grad = tensor([1e-6], [1], { device });
  optimizer.step();
  // Half of the gradient, and half of that again.
  expect(await optimizer.stateDict()["m.p"]!.item()).toBeCloseTo(2.5e-7, 12);
});

test.for(targets)("a norm that is not finite changes nothing on $name", async ({ select, device }) => {
  select();
  for (const bad of [NaN, Infinity, 1e38]) {
    using parameter = tensor([1, 2, 3, 4], [2, 2], { device });
    parameter.requiresGrad = true;
    using optimizer = new AdamW([["p", parameter]], { maxNorm: 1, lr: 0.1 });
    parameter.grad = tensor([1, bad, bad, bad], [2, 2], { device });
    optimizer.step();
    if (bad === 1e38) {
      // Squares overflow float32, but their sum must not: the norm is finite, and the step is the same as with any
      // other norm.
      expect(await optimizer.gradientNorm!.item()).toBeCloseTo(Math.sqrt(3) * 1e38, -32);
      expect((await parameter.data())[1]).toBeLessThan(2);
    } else expect([...(await parameter.data())]).toEqual([1, 2, 3, 4]);
  }
});

test.for(targets)("parameters and gradients may begin anywhere in memory on $name", async ({ select, device }) => {
  select();
  const random = new Random(9);
  const count = 1030;
  const normals = (): Float32Array => Float32Array.from({ length: count }, () => random.normal());
  const [values, slope] = [normals(), normals()];
  /** Returns the same numbers, at `offset` elements after a boundary of 16 bytes. */
  const behind = (numbers: Float32Array, offset: number): FloatTensor => {
    const padded = new Float32Array(count + offset);
    padded.set(numbers, offset);
    using whole = tensor(padded, [count + offset], { device });
    return narrow(whole, 0, offset, count);
  };
  const after = async (offset: number): Promise<Float32Array> => {
    using parameter = behind(values, offset);
    parameter.requiresGrad = true;
    using optimizer = new AdamW([["p", parameter]], { lr: 0.1, maxNorm: 1 });
    for (let step = 0; step < 2; step++) {
      parameter.zeroGrad();
      parameter.grad = behind(slope, (offset + step) % 4);
      optimizer.step();
    }
    return await parameter.data();
  };
  const aligned = await after(0);
  expect(aligned).not.toEqual(values);
  // The norm is summed in another order.
  for (const offset of [1, 2, 3])
    expectClose(`${offset} behind`, await after(offset), aligned, { relative: 8, absolute: 8 });
});

test("parameters without a gradient stay unchanged, and so do their moments", async () => {
  using a = tensor([1], [1]);
  using b = tensor([1], [1]);
  a.requiresGrad = b.requiresGrad = true;
  using optimizer = new AdamW([
    ["a", a],
    ["b", b],
  ]);
  a.grad = tensor([1], [1]);
  optimizer.step();
  expect(await a.item()).toBeLessThan(1);
  expect(await b.item()).toBe(1);
  expect(await optimizer.stateDict()["v.b"]!.item()).toBe(0);
  expect(optimizer.steps).toEqual({ a: 1, b: 0 });
  optimizer.zeroGrad();
  expect(() => optimizer.step()).toThrow(expect.objectContaining({ code: "ERR_AUTOGRAD" }));
});

test("a parameter's bias correction counts its own steps, as in PyTorch", async () => {
  // torch.optim.AdamW keeps a count of steps for each parameter, and skips parameters without a gradient.
  const names = ["always", "late", "seldom", "never"];
  const has = (name: string, step: number): boolean =>
    name === "always" || (name === "late" && step >= 300) || (name === "seldom" && step % 7 === 3);
  const random = new Random(7);
  const parameters = names.map((name): [string, FloatTensor] => [name, tensor([1, -2], [2])]);
  for (const [, parameter] of parameters) parameter.requiresGrad = true;
  const [lr, beta1, beta2, eps, weightDecay] = [0.01, 0.9, 0.999, 1e-8, 0.1];
  const exact = new Map(names.map((name) => [name, { p: [1, -2], m: [0, 0], v: [0, 0], steps: 0 }]));
  using optimizer = new AdamW(parameters, { lr, beta1, beta2, eps, weightDecay, decays: (name) => name !== "late" });
  for (let step = 0; step < 320; step++) {
    for (const [name, parameter] of parameters) {
      if (!has(name, step)) continue;
      const gradient = [random.normal(), 10 * random.normal()].map(Math.fround);
      parameter.grad = tensor(gradient, [2]);
      const own = exact.get(name)!;
      const t = ++own.steps;
      for (const [i, g] of gradient.entries()) {
        if (name !== "late") own.p[i]! *= 1 - lr * weightDecay;
        own.m[i] = beta1 * own.m[i]! + (1 - beta1) * g;
        own.v[i] = beta2 * own.v[i]! + (1 - beta2) * g * g;
        const [m, v] = [own.m[i] / (1 - beta1 ** t), own.v[i] / (1 - beta2 ** t)];
        own.p[i]! -= (lr * m) / (Math.sqrt(v) + eps);
      }
    }
    optimizer.step();
    optimizer.zeroGrad();
    if (step === 300) {
      // The first step of any parameter has the size of the learning rate, whatever its gradient is.
      const [late] = [...(await parameters[1]![1].data())];
      expect(Math.abs(late! - 1)).toBeCloseTo(lr, 6);
    }
  }
  expect(optimizer.steps).toEqual({ always: 320, late: 20, seldom: 46, never: 0 });
  for (const [name, parameter] of parameters)
    expectClose(name, await parameter.data(), exact.get(name)!.p, { relative: 320, absolute: 320 });
});

test("parameters with the same number of steps are updated in one launch", () => {
  const parameters = ["a", "b", "c", "d"].map((name): [string, FloatTensor] => [name, tensor([1, 2], [2])]);
  using optimizer = new AdamW(parameters, { decays: (name) => name === "a" });
  const launches = vi.spyOn(ops, "adamw");
  const step = (...names: string[]): number => {
    launches.mockClear();
    for (const [name, parameter] of parameters) parameter.grad = names.includes(name) ? tensor([1, 1], [2]) : null;
    optimizer.step();
    return launches.mock.calls.length;
  };
  try {
    expect([step("a", "b", "c", "d"), step("b", "c", "d"), step("b", "c"), step("b", "c", "d")]).toEqual([2, 1, 1, 2]);
  } finally {
    launches.mockRestore();
  }
});

test("a saved state continues bit for bit", async () => {
  const start = [0.5, -1, 2, 0.25, 7];
  const run = async (stop: number | null): Promise<Float32Array> => {
    using parameter = tensor(start, [5]);
    parameter.requiresGrad = true;
    const make = (): AdamW => new AdamW([["p", parameter]], { lr: 0.05, maxNorm: 1, decays: () => true });
    let optimizer = make();
    for (let step = 0; step < 10; step++) {
      if (step === stop) {
        const { steps } = optimizer;
        const state = Object.entries(optimizer.stateDict());
        const saved: Record<string, { shape: readonly number[]; values: Float32Array }> = {};
        for (const [name, moment] of state) saved[name] = { shape: moment.shape, values: await moment.data() };
        optimizer.dispose();
        optimizer = make();
        optimizer.loadStateDict(saved, steps);
      }
      parameter.zeroGrad();
      parameter.grad = tensor(
        start.map((x, i) => Math.sin(step * 5 + i) + x),
        [5],
      );
      optimizer.step();
    }
    optimizer.dispose();
    return await parameter.data();
  };
  expect(await run(4)).toEqual(await run(null));
});

test("an invalid count is refused, and nothing is changed", async () => {
  using parameter = tensor([1], [1]);
  using optimizer = new AdamW([["p", parameter]]);
  const moment = { shape: [1], values: [3] };
  const state = { "m.p": moment, "v.p": moment };
  expectError(() => optimizer.loadStateDict(state, {}), "ERR_FORMAT", /expected the steps of p, got none/);
  for (const count of [-1, 0.5, NaN, "1"])
    expectError(() => optimizer.loadStateDict(state, { p: count as number }), "ERR_RANGE", /steps of p/);
  expect(optimizer.steps).toEqual({ p: 0 });
  expect(await optimizer.stateDict()["m.p"]!.item()).toBe(0);
});
