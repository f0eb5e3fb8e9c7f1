import { describe, expect, test } from "vitest";
import { detach, isRecording, noGrad, parameter } from "../lib/core/autograd.js";
import { device } from "../lib/core/device.js";
import { add, mul } from "../lib/ops/binary.js";
import { embedding } from "../lib/ops/embedding.js";
import { addLayerNorm } from "../lib/ops/layer-norm.js";
import { matmul } from "../lib/ops/matmul.js";
import { mean, sum } from "../lib/ops/reduce.js";
import { exp, square, tanh } from "../lib/ops/unary.js";
import { narrow, reshape, transpose } from "../lib/ops/views.js";
import { AdamW } from "../lib/optim/adamw.js";
import { keep, scope } from "../lib/core/scope.js";
import { tensor } from "../lib/core/creation.js";
import type { FloatTensor } from "../lib/core/tensor.js";
import { expectError } from "./support/errors.js";
import { collectGarbage } from "./support/gc.js";
import { onEachDevice } from "./support/targets.js";

onEachDevice(() => {
  function leaf(...values: number[]): FloatTensor {
    const x = tensor(values, [values.length]);
    x.requiresGrad = true;
    return x;
  }

  const read = async (x: FloatTensor | null): Promise<number[]> => [...(await x!.data())];

  describe("saved tensors", () => {
    test("must not be overwritten before the backward pass, through any view", async () => {
      using x = leaf(1, 2);
      using factor = tensor([3, 4], [2]);
      const ways: Record<string, () => void> = {
        "set()": () => factor.set([5, 6]),
        "set() of a view": () => {
          using part = narrow(factor, 0, 1, 1);
          part.set([7]);
        },
        "set() of what detach() gives": () => {
          using view = detach(factor);
          view.set([8, 9]);
        },
      };
      for (const [way, write] of Object.entries(ways)) {
        using y = sum(square(mul(x, factor)));
        write();
        expectError(
          () => y.backward(),
          "ERR_AUTOGRAD",
          /expected the tensors that mul saved .+ to be unchanged, .+ overwritten/,
        );
        expect(x.grad, `${way}: nothing was added`).toBeNull();
        using again = sum(square(mul(x, factor)));
        again.backward();
        const [a, b] = await factor.data();
        expect(await read(x.grad)).toEqual([2 * a! ** 2, 4 * b! ** 2]);
        x.zeroGrad();
      }
    });

    test("include the parameters that an optimiser changes, and ids", () => {
      using w = parameter(tensor([1, 2, 3, 4], [2, 2]));
      using x = tensor([1, 2], [1, 2]);
      x.requiresGrad = true;
      using ids = tensor(Int32Array.of(0, 1));
      using optimizer = new AdamW([["w", w]]);
      const programs = [(): FloatTensor => sum(matmul(x, w)), (): FloatTensor => sum(square(embedding(ids, w)))];
      for (const program of programs) {
        {
          using y = program();
          y.backward();
        }
        using late = program();
        optimizer.step();
        ids.set([1, 1]);
        expectError(() => late.backward(), "ERR_AUTOGRAD", /optimiser's step/);
        optimizer.zeroGrad();
      }
    });

    test("may be disposed, and written to afterwards", async () => {
      using x = leaf(1, 2);
      const factor = tensor([3, 4], [2]);
      using y = sum(mul(x, factor));
      factor.dispose();
      y.backward();
      expect(await read(x.grad)).toEqual([3, 4]);
      x.set([5, 6]);
      using z = sum(square(x));
      z.backward();
      expect(await read(x.grad)).toEqual([13, 16]);
    });
  });

  describe("backward", () => {
    test("gradients of two passes accumulate, and zeroGrad forgets them", async () => {
      using x = leaf(1, 2, 3);
      for (const factor of [1, 2]) {
        using y = sum(square(x));
        y.backward();
        expect(await read(x.grad)).toEqual([2 * factor, 4 * factor, 6 * factor]);
      }
      x.zeroGrad();
      expect(x.grad).toBeNull();
      using y = sum(x);
      y.backward();
      expect(await read(x.grad)).toEqual([1, 1, 1]);
    });

    test("a scale multiplies every gradient", async () => {
      using x = leaf(1, 2, 3);
      using y = sum(square(x));
      y.backward(0.25);
      expect(await read(x.grad)).toEqual([0.5, 1, 1.5]);
    });

    test("a scale that the dtype does not hold is refused", () => {
      using x = leaf(1, 2);
      for (const [dtype, scale] of [
        ["f16", 65505],
        ["f32", 1e39],
        ["f32", NaN],
      ] as const) {
        using y = scope(() => sum(square(x)).to(dtype));
        expectError(() => y.backward(scale), "ERR_RANGE", /backward: expected scale to be a number/);
      }
    });

    test("branches that meet again add up", async () => {
      using x = leaf(2, -3);
      // f = a·b + a, a = x², b = 3x: f' = 9x² + 2x
      const a = square(x);
      const b = mul(x, 3);
      using y = sum(add(mul(a, b), a));
      y.backward();
      expect(await read(x.grad)).toEqual([40, 75]);
    });

    test("one result used by many", async () => {
      using x = leaf(1, 2);
      const h = mul(x, 2);
      let total = add(h, h);
      for (let i = 0; i < 5; i++) total = add(total, h);
      using y = sum(total);
      y.backward();
      expect(await read(x.grad)).toEqual([14, 14]);
    });

    test("a gradient passed on unchanged is not shared: adding to one leaves the other", async () => {
      using a = leaf(1, 1);
      using b = leaf(2, 2);
      // add passes the same gradient to both; a gets further gradients from elsewhere, before and after.
      const [ha, hb] = [mul(a, 1), mul(b, 1)];
      using y = sum(add(mul(ha, 10), add(add(ha, hb), mul(ha, 100))));
      y.backward();
      expect(await read(a.grad)).toEqual([111, 111]);
      expect(await read(b.grad)).toEqual([1, 1]);
      a.grad!.set([7, 7]);
      expect(await read(b.grad)).toEqual([1, 1]);
    });

    test("a gradient that reshape passes on is not shared either", async () => {
      using p = leaf(1, 2);
      using q = leaf(3, 4);
      using y = scope(() => {
        const x = mul(p, 1);
        const b = mul(q, 1);
        const u = mul(x, 3);
        // add passes the same gradient to both; x gets a further gradient from u before q gets any.
        const shared = add(reshape(x, [2, 1]), reshape(b, [2, 1]));
        return add(sum(shared), sum(u));
      });
      y.backward();
      expect(await read(p.grad)).toEqual([4, 4]);
      expect(await read(q.grad)).toEqual([1, 1]);
    });

    test("the same holds if the gradient is that of both the sum and its norm", async () => {
      using p = leaf(1, 2);
      using q = leaf(3, 4);
      using y = scope(() => {
        const x = mul(p, 1);
        const b = mul(q, 1);
        const u = mul(x, 3);
        const { sum: h, out } = addLayerNorm(b, reshape(x, [2]), {});
        return add(add(sum(h), sum(mul(out, 0))), sum(u));
      });
      y.backward();
      expect(await read(p.grad)).toEqual([4, 4]);
      expect(await read(q.grad)).toEqual([1, 1]);
    });

    test("views of one tensor write their own parts of its gradient", async () => {
      using x = leaf(1, 2, 3, 4, 5, 6);
      const rows = reshape(x, [2, 3]);
      using y = sum(matmul(narrow(rows, 0, 0, 1), transpose(narrow(rows, 0, 1, 1))));
      y.backward();
      expect(await read(x.grad)).toEqual([4, 5, 6, 1, 2, 3]);
    });

    test("only what leads to the loss gets a gradient", async () => {
      using x = leaf(1, 2);
      using other = leaf(3, 4);
      using unused = mul(other, x);
      using y = sum(x);
      y.backward();
      expect(await read(x.grad)).toEqual([1, 1]);
      expect(other.grad).toBeNull();
      expect(unused.requiresGrad).toBe(true);
    });

    test("the values at the time of the operation count, even if a leaf changes later in the queue", async () => {
      using x = leaf(3);
      using y = sum(square(x));
      y.backward();
      x.set([100]);
      expect(await read(x.grad)).toEqual([6]);
    });

    test("a chain of 20,000 operations needs no stack", async () => {
      await collectGarbage();
      const before = device().memory().live;
      using x = leaf(1);
      using y = scope(() => {
        let h: FloatTensor = x;
        for (let i = 0; i < 20_000; i++) h = add(h, x);
        return sum(h);
      });
      y.backward();
      expect(await read(x.grad)).toEqual([20_001]);
      x.dispose();
      y.dispose();
      expect(device().memory().live).toBe(before);
    });

    test("a chain of 20,000 that is never differentiated goes without a stack too", async () => {
      await collectGarbage();
      const before = device().memory().live;
      using x = leaf(1);
      const y = scope(() => {
        let h: FloatTensor = x;
        for (let i = 0; i < 20_000; i++) h = tanh(h);
        return h;
      });
      y.dispose();
      x.dispose();
      expect(device().memory().live).toBe(before);
    });

    test("throws without a graph, for more or fewer than one element, and if the graph is used up", () => {
      using x = leaf(1, 2);
      using constant = tensor([1], [1]);
      expectError(
        () => constant.backward(),
        "ERR_AUTOGRAD",
        /expected a tensor computed outside of noGrad\(\) from one that requires a gradient/,
      );
      expectError(() => x.backward(), "ERR_AUTOGRAD", /expected/);
      using vector = square(x);
      expectError(() => vector.backward(), "ERR_SHAPE");
      using y = sum(x);
      y.backward();
      expectError(() => y.backward(), "ERR_AUTOGRAD", /no earlier backward\(\) has freed/);
      using h = square(x);
      using first = sum(h);
      using second = mean(h);
      first.backward();
      expectError(() => second.backward(), "ERR_AUTOGRAD", /no earlier backward\(\) has freed/);
      expectError(() => add(h, 1), "ERR_AUTOGRAD", /no earlier backward\(\) has freed/);
    });

    test("a failed backward leaves leaves usable", async () => {
      using x = leaf(1, 2);
      using vector = square(x);
      expectError(() => vector.backward(), "ERR_SHAPE");
      using y = sum(vector);
      y.backward();
      expect(await read(x.grad)).toEqual([2, 4]);
    });
  });

  describe("recording", () => {
    test("noGrad records nothing and restores, also after an exception", () => {
      using x = leaf(1);
      expect(isRecording()).toBe(true);
      using y = noGrad(() => {
        expect(isRecording()).toBe(false);
        using inner = noGrad(() => exp(x));
        expect(inner.requiresGrad).toBe(false);
        expect(isRecording()).toBe(false);
        return exp(x);
      });
      expect(y.requiresGrad).toBe(false);
      expect(() =>
        noGrad(() => {
          throw new Error("x");
        }),
      ).toThrow("x");
      expect(isRecording()).toBe(true);
    });

    test("noGrad takes no asynchronous function", () => {
      expectError(() => noGrad(async () => Promise.resolve(1)), "ERR_ARGUMENT", /expected a synchronous function/);
      expect(isRecording()).toBe(true);
    });

    test("operations on tensors that need no gradient are not recorded", () => {
      using x = tensor([1, 2], [2]);
      using y = exp(x);
      expect(y.requiresGrad).toBe(false);
      x.requiresGrad = true;
      using z = exp(x);
      expect(z.requiresGrad).toBe(true);
      x.requiresGrad = false;
      using w = exp(x);
      expect(w.requiresGrad).toBe(false);
    });

    test("detach cuts the graph and shares the elements", async () => {
      using x = leaf(1, 2);
      using h = square(x);
      using cut = detach(h);
      expect(cut.requiresGrad).toBe(false);
      using y = sum(mul(h, cut));
      y.backward();
      expect(await read(x.grad)).toEqual([2, 16]);
      expect(await read(cut)).toEqual([1, 4]);
    });

    test("requiresGrad is for leaves of floating types", () => {
      using x = leaf(1);
      using y = exp(x);
      expectError(() => (y.requiresGrad = false), "ERR_AUTOGRAD");
      using ids = tensor(Int32Array.of(1), [1]);
      expectError(() => ((ids as { requiresGrad: boolean }).requiresGrad = true), "ERR_DTYPE");
    });
  });

  describe("lifetimes", () => {
    const live = (): number => device().memory().live;

    test("tensors that a scope disposes stay for the graph that needs them", async () => {
      await collectGarbage();
      const before = live();
      using x = leaf(0.5, 1);
      const loss = scope(() => sum(exp(square(tanh(x)))));
      expect(live()).toBeGreaterThan(before + 12);
      loss.backward();
      const expected = [0.5, 1].map((v) => Math.exp(Math.tanh(v) ** 2) * 2 * Math.tanh(v) * (1 - Math.tanh(v) ** 2));
      (await read(x.grad)).forEach((value, i) => expect(value).toBeCloseTo(expected[i]!, 5));
      loss.dispose();
      x.dispose();
      expect(live()).toBe(before);
    });

    test("a graph that is never differentiated is freed with its result", async () => {
      await collectGarbage();
      const before = live();
      using x = leaf(1, 2, 3);
      const loss = scope(() => sum(exp(square(tanh(x)))));
      loss.dispose();
      expect(live()).toBe(before + 12);
    });

    test("backward frees saved tensors while the loss still exists", async () => {
      await collectGarbage();
      const before = live();
      using x = leaf(1, 2, 3);
      using loss = scope(() => sum(exp(square(tanh(x)))));
      loss.backward();
      // x, its gradient and the loss
      expect(live()).toBe(before + 12 + 12 + 4);
    });

    test("a disposed input still gets through to the leaves before it", async () => {
      using x = leaf(3);
      const h = square(x);
      using y = sum(mul(h, 2));
      h.dispose();
      y.backward();
      expect(await read(x.grad)).toEqual([12]);
    });

    test("a leaf that is disposed before backward gets no gradient and leaves none behind", async () => {
      await collectGarbage();
      const before = live();
      using x = leaf(2);
      const gone = leaf(3);
      using y = scope(() => sum(mul(square(x), gone)));
      gone.dispose();
      y.backward();
      expect(gone.grad).toBeNull();
      expect(await read(x.grad)).toEqual([12]);
      expect(live()).toBe(before + 4 + 4 + 4);
    });

    test("a scope inside of a differentiated function, and keep", async () => {
      using x = leaf(2);
      let kept: FloatTensor | undefined;
      using y = scope(() =>
        sum(
          scope(() => {
            kept = keep(square(x));
            return mul(kept, 3);
          }),
        ),
      );
      y.backward();
      expect(await read(x.grad)).toEqual([12]);
      expect(await read(kept!)).toEqual([4]);
      kept!.dispose();
    });

    test("parameters and their gradients outlive scopes", async () => {
      const p = scope(() => {
        const p = parameter(tensor([1, 2], [2]));
        sum(square(p)).backward();
        return { inner: { p } };
      }).inner.p;
      const hidden: FloatTensor[] = [];
      scope(() => {
        hidden.push(parameter(tensor([3], [1])));
      });
      expect(await read(p.grad)).toEqual([2, 4]);
      expect(await read(hidden[0]!)).toEqual([3]);
      p.dispose();
      hidden[0]!.dispose();
    });
  });
});
