/** A weight of f32 beside 16-bit activations: its rounded copy must always match its current value. */
import { describe, expect, test } from "vitest";
import { detach, noGrad, parameter } from "../../lib/core/autograd.js";
import { device as deviceOf } from "../../lib/core/device.js";
import { Graph } from "../../lib/core/graph.js";
import { Initializer } from "../../lib/nn/init.js";
import { Linear } from "../../lib/nn/linear.js";
import { ops } from "../../lib/core/native.js";
import { add } from "../../lib/ops/binary.js";
import { linear } from "../../lib/ops/linear.js";
import { sum } from "../../lib/ops/reduce.js";
import { narrow, reshape, transpose } from "../../lib/ops/views.js";
import { AdamW } from "../../lib/optim/adamw.js";
import { keep, scope } from "../../lib/core/scope.js";
import { ones, tensor, zeros } from "../../lib/core/creation.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { expectError } from "../support/errors.js";
import { collectGarbage } from "../support/gc.js";
import { devicesHere, devicesTested, orCpu } from "../support/targets.js";

const dtypes = ["bf16", "f16"] as const;
const cases = devicesTested.flatMap(({ device }) => dtypes.map((dtype) => ({ device, dtype })));

describe.each(cases)("a weight beside $dtype on $device", ({ device: on, dtype }) => {
  const device = orCpu(on);
  // All of these numbers are exact in 16 bits.
  const before = [1, 2, 3, 4, 5, 6];
  const after = [7, -1, 0.5, 2, 8, -3];
  const made = (values: number[]): FloatTensor => parameter(keep(tensor(values, [2, 3], { device })));
  const x = keep(tensor([1, 2, 4], [1, 3], { device, dtype }));
  const products = (w: ArrayLike<number>): number[] =>
    [0, 1].map((row) => [1, 2, 4].reduce((sum, x, i) => sum + x * w[row * 3 + i]!, 0));

  /** Returns x · wᵀ, computed for inference. */
  const inferred = async (w: FloatTensor): Promise<number[]> => {
    using y = noGrad(() => linear(x, w));
    return [...(await y.data())];
  };

  /** Returns x · wᵀ of a recorded pass, and the gradient of x, which is a sum of w's rows. */
  const trained = async (w: FloatTensor): Promise<[number[], number[]]> => {
    using leaf = tensor([1, 2, 4], [1, 3], { device, dtype });
    leaf.requiresGrad = true;
    using y = linear(leaf, w);
    using total = sum(y);
    total.backward();
    w.zeroGrad();
    return [[...(await y.data())], [...(await leaf.grad!.data())]];
  };

  const columns = (w: ArrayLike<number>): number[] => [0, 1, 2].map((i) => w[i]! + w[3 + i]!);

  const writes: Record<string, (w: FloatTensor) => void> = {
    "set()": (w) => w.set(after),
    "set() of what detach() gives": (w) => {
      using view = detach(w);
      view.set(after);
    },
    "set() of parts": (w) => {
      for (const [row, values] of [after.slice(0, 3), after.slice(3)].entries()) {
        using part = noGrad(() => narrow(w, 0, row, 1));
        part.set(values);
      }
    },
    "set() of another shape": (w) => {
      using flat = noGrad(() => reshape(w, [6]));
      flat.set(after);
    },
    "set() of its transpose": (w) => {
      using turned = noGrad(() => transpose(w));
      turned.set([0, 3, 1, 4, 2, 5].map((i) => after[i]!));
    },
    "an optimiser's step": (w) => {
      using optimizer = new AdamW([["w", w]], { lr: 1, beta1: 0, beta2: 0, eps: 0, weightDecay: 0 });
      // The first step has size 1, in the direction opposite to the gradient.
      for (let i = 0; i < 6; i++) {
        w.grad = keep(tensor(new Float32Array(6).fill(-1), [2, 3], { device }));
        optimizer.step();
        w.zeroGrad();
      }
    },
  };

  test.for(Object.entries(writes))("follows %s", async ([, write]) => {
    using w = made(before);
    expect(await inferred(w)).toEqual(products(before));
    write(w);
    const now = await w.data();
    expect([...now]).not.toEqual(before);
    expect(await inferred(w)).toEqual(products(now));
    // The same if the next pass is recorded and uses the copy.
    w.set(before);
    expect(await inferred(w)).toEqual(products(before));
    write(w);
    expect(await trained(w)).toEqual([products(now), columns(now)]);
    expect(await inferred(w)).toEqual(products(now));
  });

  test("follows loaded values, and moves", async () => {
    using layer = new Linear(
      { inputs: 3, outputs: 2, bias: false, layout: "oi" },
      new Initializer(1, deviceOf(device)),
    );
    await inferred(layer.weight);
    layer.loadStateDict({ weight: { shape: [2, 3], values: after } });
    expect(await inferred(layer.weight)).toEqual(products(after));
    layer.weight.set(before);
    for (const { device: other } of devicesHere) {
      layer.to(other);
      expect([...(await layer.weight.data())]).toEqual(before);
      layer.to(device);
      expect(await inferred(layer.weight)).toEqual(products(before));
    }
  });

  test("is rounded once for inference, and by each recorded pass for itself", async () => {
    using w = made(before);
    await collectGarbage();
    await inferred(w);
    const { rounding } = w;
    expect(rounding).not.toBeNull();
    await inferred(w);
    expect(w.rounding, "kept").toBe(rounding);
    w.set(after);
    await inferred(w);
    expect(w.rounding, "renewed where it lies").toBe(rounding);
    const { tensors } = deviceOf(device).memory();
    {
      using y = linear(x, w);
      expect(w.rounding, "the graph's").toBeNull();
      expect(deviceOf(device).memory().tensors, "no more than the result").toBe(tensors + 1);
      expect([...(await y.data())]).toEqual(products(after));
    }
    expect(deviceOf(device).memory().tensors, "gone with the graph").toBe(tensors - 1);
  });

  describe("in recorded operations", () => {
    const captured = (w: FloatTensor, out: FloatTensor): Graph =>
      Graph.capture(deviceOf(device), () =>
        noGrad(() => {
          // This memory has the weight's size, and is free again when the weight is requested.
          add(ones([2, 3], { device, dtype }), 1).dispose();
          scope(() => ops.copy({ out, inp: linear(x, w) }));
        }),
      );

    test.for([true, false])("is renewed before each launch that needs it, kept before: %s", async (kept) => {
      using w = made(before);
      using out = zeros([1, 2], { device });
      const launched = async (graph: Graph): Promise<number[]> => {
        graph.launch();
        return [...(await out.data())];
      };
      if (kept) await inferred(w);
      using graph = captured(w, out);
      expect(await launched(graph)).toEqual(products(before));
      w.set(after);
      expect(await launched(graph)).toEqual(products(after));
      // Training removes nothing that the graph needs, and the graph changes nothing that training has saved.
      const [y, gradient] = await trained(w);
      expect([y, gradient]).toEqual([products(after), columns(after)]);
      using leaf = ones([1, 3], { device, dtype });
      leaf.requiresGrad = true;
      using loss = sum(linear(leaf, w));
      w.set(before);
      expect(await launched(graph)).toEqual(products(before));
      // On the CPU the backward pass rounds the weight again, and notices that it is another one.
      if (device === "cpu") expectError(() => loss.backward(), "ERR_AUTOGRAD", /weight, .*has been overwritten/);
      else {
        loss.backward();
        expect([...(await leaf.grad!.data())], "of the weight that the forward pass had").toEqual(columns(after));
      }
      w.zeroGrad();
      // Two graphs at once, and inference in another dtype between their launches.
      using second = captured(w, out);
      w.set(after);
      expect(await launched(second)).toEqual(products(after));
      expect(await launched(graph)).toEqual(products(after));
      using wide = ones([1, 3], { device, dtype: dtype === "bf16" ? "f16" : "bf16" });
      noGrad(() => linear(wide, w)).dispose();
      w.set(before);
      expect(await launched(graph)).toEqual(products(before));
      expect(await launched(second)).toEqual(products(before));
      w.set(after);
      w.dispose();
      expect(await launched(graph)).toEqual(products(after));
    });

    test("is computed although a recording failed in which it was first requested", async () => {
      using w = made(before);
      await collectGarbage();
      const { tensors } = deviceOf(device).memory();
      const failing = (): Graph =>
        Graph.capture(deviceOf(device), () => {
          noGrad(() => scope(() => void linear(x, w)));
          throw new Error("planted");
        });
      expect(failing).toThrow("planted");
      expect(await inferred(w)).toEqual(products(before));
      w.set(after);
      expect(failing).toThrow("planted");
      expect(await trained(w)).toEqual([products(after), columns(after)]);
      expect(deviceOf(device).memory().tensors).toBe(tensors);
    });
  });
});
