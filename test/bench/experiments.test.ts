/** Tests what the experiments compute themselves: baselines, fits and counts. */
import { expect, test } from "vitest";
import { drawFrom } from "../../bench/experiments/draw.js";
import { percent } from "../../bench/experiments/experiment.js";
import { type Exports, LaunchRecorder } from "../../bench/experiments/launch-recorder.js";
import {
  answersOf,
  bestScaled,
  differencesOf,
  drawPrompts,
  errorsOf,
  gradientStep,
  nearest,
  ridge,
} from "../../bench/experiments/linear-tasks.js";
import { fitLine, fitLossLaw, lossBy } from "../../bench/experiments/power-law.js";
import { clearSign } from "../../bench/experiments/seeds.js";
import { noGrad } from "../../lib/core/autograd.js";
import { randn } from "../../lib/core/creation.js";
import { native, ops } from "../../lib/core/native.js";
import { add } from "../../lib/ops/binary.js";
import { lstm } from "../../lib/ops/lstm.js";
import { matmul } from "../../lib/ops/matmul.js";
import { exp } from "../../lib/ops/unary.js";
import { narrow } from "../../lib/ops/views.js";
import { scope } from "../../lib/core/scope.js";

test("least squares is exact once there are as many examples as dimensions, and as good as theory says before", () => {
  const prompts = drawPrompts({ rows: 1500, points: 6, dimensions: 3 }, drawFrom(5));
  const errors = errorsOf(prompts, answersOf(prompts, ridge(1e-9)));
  // The shortest w after n examples leaves the part of w in the other d − n dimensions. With n = d, some prompts have
  // inputs that nearly depend on each other, so that the rounding of y to f32 counts.
  for (const [examples, expected] of [1, 2 / 3, 1 / 3, 0, 0, 0].entries())
    expect(Math.abs(errors[examples]! - expected), String(examples)).toBeLessThan(
      0.12 * expected + (examples === 3 ? 1e-4 : 1e-8),
    );
  const step = answersOf(prompts, gradientStep);
  const scaled = errorsOf(prompts, bestScaled(prompts, step));
  // One step of the best size η leaves 1 / (1 + n/(d + 1)) (the moments of normal inputs).
  for (const examples of [1, 2, 5]) expect(Math.abs(scaled[examples]! - 1 / (1 + examples / 4))).toBeLessThan(0.06);
  expect(nearest([[0], [1], [2], [9]], [1, 2, 3, 100], [0.5])).toBe(2);
});

test("the best ridge regression beats least squares on noisy examples", () => {
  const prompts = drawPrompts({ rows: 500, points: 5, dimensions: 3 }, drawFrom(7), { noise: 1, scale: 2 });
  const [best, exact] = [1, 1e-9].map((penalty) => errorsOf(prompts, answersOf(prompts, ridge(penalty))).at(-1)!);
  expect(best!).toBeLessThan(exact!);
  expect(prompts.y).not.toEqual(prompts.truth);
});

test("answers are compared over the variance of the values", () => {
  const prompts = drawPrompts({ rows: 2, points: 2, dimensions: 1 }, drawFrom(3));
  const truth = Float32Array.of(1, 2, 3, 4);
  expect(differencesOf({ ...prompts, truth }, [1, 1, 1, 1], [2, 1, 0, 5])).toEqual([(1 + 1) / (1 + 9), 16 / (4 + 16)]);
  expect(errorsOf({ ...prompts, truth }, [1, 0, 0, 4])).toEqual([9 / 10, 4 / 20]);
});

test("a difference is clear if its interval leaves out 0", () => {
  // With 3 seeds, the half-width is 4.303 standard errors.
  expect([[1, 1.1, 0.9], [-1, -1.1, -0.9], [1, 3, -1], [2]].map(clearSign)).toEqual([1, -1, 0, 0]);
});

test("fits find the laws that made the points", () => {
  const line = fitLine([1, 2, 5].map((x) => [x, 3 - 0.5 * x]));
  expect(line.intercept).toBeCloseTo(3, 12);
  expect(line).toMatchObject({ slope: -0.5, explained: 1 });
  const law = { irreducible: 1.2, a: 30, b: 400, alpha: 0.4, beta: 0.55, error: 0 };
  const points = [1e3, 4e3, 2e4, 9e4].flatMap((parameters) =>
    [1e4, 1e5, 1e6].map((tokens) => ({ parameters, tokens, loss: lossBy(law, parameters, tokens) })),
  );
  const found = fitLossLaw(points);
  expect(found.error).toBeLessThan(1e-3);
  expect(Math.abs(found.alpha - law.alpha)).toBeLessThan(0.01);
  expect(Math.abs(found.beta - law.beta)).toBeLessThan(0.01);
  expect(Math.abs(found.irreducible - law.irreducible)).toBeLessThan(0.05);
  // Points without an irreducible loss do not get a negative one.
  const none = points.map((point) => ({
    ...point,
    loss: lossBy({ ...law, irreducible: 0 }, point.parameters, point.tokens),
  }));
  expect(fitLossLaw(none).irreducible).toBeGreaterThanOrEqual(0);
});

test("shares that round to zero have no sign", () => {
  expect([percent(-0.001), percent(-0.0004, 1), percent(-0.0006, 1), percent(0.126)]).toEqual([
    "0 %",
    "0.0 %",
    "-0.1 %",
    "13 %",
  ]);
});

test("a recorder counts launches, the longest chain of dependent ones, and their work", async () => {
  using recorder = new LaunchRecorder(native as unknown as Exports);
  const [a, b] = [randn([4, 6], { seed: 1, device: "cpu" }), randn([6, 3], { seed: 2, device: "cpu" })];
  const count = (body: () => unknown) =>
    recorder.count(() => {
      noGrad(() => {
        scope(() => {
          body();
        });
      });
      return Promise.resolve();
    });
  expect(await count(() => exp(exp(a)))).toEqual({ launches: 2, path: 2, work: 48 });
  expect(await count(() => [exp(a), exp(a)])).toMatchObject({ launches: 2, path: 1 });
  expect(await count(() => matmul(a, b))).toEqual({ launches: 1, path: 1, work: 2 * 4 * 6 * 3 });
  // The halves of a tensor are written apart. What reads one half waits for its writer alone.
  const halves = (from: number) =>
    count(() => {
      ops.copy({ out: narrow(a, 1, 0, 3), inp: exp(exp(narrow(a, 1, 0, 3))) });
      ops.copy({ out: narrow(a, 1, 3, 3), inp: narrow(a, 1, 3, 3), accumulate: true });
      add(narrow(a, 1, from, 3), 1);
    });
  const [first, second] = [(await halves(0)).path, (await halves(3)).path];
  expect(second).toBeLessThan(first);
  // Each step of an LSTM adds a product and a cell to the chain.
  const steps = async (length: number) => {
    using gates = randn([length, 2, 12], { seed: 3, device: "cpu" });
    using weight = randn([12, 3], { seed: 4, device: "cpu" });
    return (await count(() => lstm(gates, weight))).path;
  };
  const [four, eight, twelve] = [await steps(4), await steps(8), await steps(12)];
  expect(eight - four).toBe(twelve - eight);
  expect((eight - four) / 4).toBe(2);
  for (const one of [a, b]) one.dispose();
});
