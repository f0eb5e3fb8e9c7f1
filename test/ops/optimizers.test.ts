/** The kernels of the optimisers: ten steps beside PyTorch on every target, and lists of every shape. */
import { afterAll, describe, test } from "vitest";
import { tensor } from "../../lib/core/creation.js";
import { native, ops } from "../../lib/core/native.js";
import { Lion } from "../../lib/optim/lion.js";
import { Muon } from "../../lib/optim/muon.js";
import type { OptimizerOptions } from "../../lib/optim/optimizer.js";
import { SGD } from "../../lib/optim/sgd.js";
import { narrow } from "../../lib/ops/views.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { expectClose } from "../support/close.js";
import { expectError } from "../support/errors.js";
import {
  decode,
  decodeFloats,
  expectLikeTorch,
  type FixtureArray,
  type FixtureResult,
  readFixture,
} from "../support/fixtures.js";
import { Random } from "../support/random.js";
import { bestIsa, targets } from "../support/targets.js";

type Named = [string, FloatTensor][];

const optimizers = {
  sgd: (of: Named, options: OptimizerOptions) => new SGD(of, options),
  lion: (of: Named, options: OptimizerOptions) => new Lion(of, options),
  muon: (of: Named, options: OptimizerOptions) => new Muon(of, options),
};
const random = new Random(5);

afterAll(() => native.selectIsa(bestIsa));

interface Case {
  name: string;
  options: { maxNorm: number | null };
  result: FixtureResult;
}

describe("ten steps beside PyTorch", () => {
  const { params, grads, cases } = readFixture("ops/optimizers") as {
    params: FixtureArray[];
    grads: FixtureArray[][];
    cases: Case[];
  };
  for (const { name, options, result } of cases)
    test.for(targets)(`${name} on $name`, async ({ select, device }) => {
      select();
      const parameters = params.map((array, i): [string, FloatTensor] => [`p${i}`, decodeFloats(array, device)]);
      for (const [, parameter] of parameters) parameter.requiresGrad = true;
      const { maxNorm, ...others } = options;
      using optimizer = optimizers[name.split(" ")[0] as keyof typeof optimizers](parameters, {
        ...others,
        ...(maxNorm !== null && { maxNorm }),
      });
      for (const step of grads) {
        for (const [i, [, parameter]] of parameters.entries())
          parameter.grad = tensor(decode(step[i]!), parameter.shape, { device });
        optimizer.step();
        optimizer.zeroGrad();
      }
      const data = await Promise.all(parameters.map(([, parameter]) => parameter.data()));
      expectLikeTorch(
        "parameters",
        data.flatMap((values) => [...values]),
        result,
      );
      for (const [, parameter] of parameters) parameter.dispose();
    });
});

test.for(targets)(
  "lists of uneven tensors, some of several tasks and some that begin anywhere in memory, on $name",
  async ({ select, device }) => {
    select();
    const sizes = [0, 1, 17, 16384, 16385, 33, 0];
    const list = (): Float32Array[] => sizes.map((size) => Float32Array.from({ length: size }, () => random.normal()));
    const [outs, inps] = [list(), list()];
    // All but the first element, so that nothing is aligned.
    const shifted = (values: Float32Array): FloatTensor =>
      narrow(tensor([0, ...values], [values.length + 1], { device }), 0, 1, values.length);
    const moved = outs.map(shifted);
    ops.lerp_list({ outs: moved, inps: inps.map(shifted), norm: null, maxNorm: 0, weight: 0.25 });
    ops.scale_list({ tensors: moved, factor: 3 });
    for (const [i, target] of moved.entries()) {
      const expected = outs[i]!.map((x, j) => 3 * (x + 0.25 * (inps[i]![j]! - x)));
      expectClose(`${i}`, await target.data(), expected, { relative: 4, absolute: 4 });
    }
  },
);

test("the device refuses lists that do not fit", () => {
  const [x, y] = [tensor([1, 2]), tensor([1, 2, 3])];
  const like = { params: [x], grads: [x], norm: null, maxNorm: 0, lr: 0.1, weightDecay: 0 };
  const sgd = { ...like, m: [], momentum: 0 };
  expectError(() => ops.sgd({ ...sgd, grads: [] }), "ERR_SHAPE", /expected 1 grads, got 0/);
  expectError(() => ops.sgd({ ...sgd, m: [x] }), "ERR_ARGUMENT", /expected momentum above 0 for m, got 0/);
  expectError(() => ops.sgd({ ...sgd, momentum: 0.9, m: [y] }), "ERR_SHAPE", /m\[0\] of shape \[2\], got \[3\]/);
  expectError(() => ops.sgd({ ...sgd, nesterov: true }), "ERR_ARGUMENT", /for nesterov/);
  expectError(() => ops.sgd({ ...sgd, norm: y, maxNorm: 1 }), "ERR_SHAPE", /norm of shape \[1\]/);
  expectError(() => ops.sgd({ ...sgd, norm: tensor([1]), maxNorm: 0 }), "ERR_RANGE", /max_norm above 0/);
  const lion = { ...like, m: [x], beta1: 0.9, beta2: 0.9 };
  expectError(() => ops.lion({ ...lion, m: [] }), "ERR_SHAPE", /expected 1 m, got 0/);
  expectError(() => ops.lion({ ...lion, beta2: 1 }), "ERR_RANGE", /beta2 in \[0, 1\), got 1/);
  const lerp = { outs: [x], inps: [x], norm: null, maxNorm: 0, weight: 0.5 };
  expectError(() => ops.lerp_list({ ...lerp, inps: [y] }), "ERR_SHAPE", /inps\[0\] of shape \[2\], got \[3\]/);
  expectError(() => ops.lerp_list({ ...lerp, weight: 2 }), "ERR_RANGE", /weight in \[0, 1\], got 2/);
  const ids = tensor([1, 2], [2], { dtype: "i32" });
  expectError(() => ops.scale_list({ tensors: [ids], factor: 2 }), "ERR_DTYPE", /tensors\[0\] of dtype f32, got i32/);
  expectError(() => ops.scale_list({ tensors: [x], factor: NaN }), "ERR_RANGE", /factor to be finite, got nan/);
});
