// Tests tensors and modules in another dtype or on another device.
import { describe, expect, test } from "vitest";
import { noGrad, parameter } from "../lib/core/autograd.js";
import { device as deviceOf } from "../lib/core/device.js";
import { Initializer } from "../lib/nn/init.js";
import { Linear } from "../lib/nn/linear.js";
import { mul } from "../lib/ops/binary.js";
import { sum } from "../lib/ops/reduce.js";
import { transpose } from "../lib/ops/views.js";
import { scope } from "../lib/core/scope.js";
import { ones, randn, tensor } from "../lib/core/creation.js";
import { expectError } from "./support/errors.js";
import { devicesTested } from "./support/targets.js";

describe.each(devicesTested)("to, on $name", ({ device }) => {
  test("another dtype rounds, and the gradient returns in the first dtype", async () => {
    using x = tensor([1 / 3, 2.5, -7], [3], { device });
    x.requiresGrad = true;
    using half = x.to("f16");
    expect(half.dtype).toBe("f16");
    expect([...(await half.data())]).toEqual([0.333251953125, 2.5, -7]);
    using integers = x.to("i32");
    expect([...(await integers.data())]).toEqual([0, 2, -7]);
    expect(integers.requiresGrad).toBe(false);
    scope(() => sum(mul(half, half)).backward());
    expect(x.grad!.dtype).toBe("f32");
    // 2x, rounded to f16.
    expect([...(await x.grad!.data())]).toEqual([0.66650390625, 5, -14]);
  });

  test("if nothing changes, it is a separate view", async () => {
    using x = ones([3], { device });
    x.requiresGrad = true;
    const before = x.device.memory().live;
    for (const target of ["f32", device, x.device] as const) {
      using same = x.to(target);
      expect(same).not.toBe(x);
      expect(x.device.memory().live).toBe(before);
      expect([...(await same.data())]).toEqual([1, 1, 1]);
    }
    using same = x.to(device);
    scope(() => sum(mul(same, 3)).backward());
    expect([...(await x.grad!.data())]).toEqual([3, 3, 3]);
  });

  test("another device, there and back, with the gradient", async () => {
    using x = parameter(randn([5, 7], { seed: 1, device: "cpu" }));
    const values = await x.data();
    using there = transpose(x).to(device);
    expect(there.device).toBe(deviceOf(device));
    expect(there.shape).toEqual([7, 5]);
    using back = scope(() => transpose(mul(there, 2)).to("cpu"));
    expect(back.device.name).toBe("cpu");
    expect(await back.data()).toEqual(values.map((value) => 2 * value));
    scope(() => sum(mul(back, back)).backward());
    expect(x.grad!.device.name).toBe("cpu");
    expect(await x.grad!.data()).toEqual(values.map((value) => 8 * value));
  });

  test("ids move too, and empty tensors", async () => {
    using ids = tensor(Int32Array.of(1, -2, 3)).to(device);
    expect(ids.dtype).toBe("i32");
    expect([...(await ids.data())]).toEqual([1, -2, 3]);
    using empty = ones([0, 3], { device: "cpu" }).to(device);
    expect([...(await empty.data())]).toEqual([]);
  });

  test("a module moves in place", async () => {
    using module = new Linear({ inputs: 3, outputs: 2 }, new Initializer(1, deviceOf("cpu")));
    const { weight } = module;
    const before = await weight.data();
    weight.set(before);
    scope(() => sum(module.forward(ones([1, 3], { device: "cpu" }))).backward());
    expect(module.to(device)).toBe(module);
    expect(module.weight).toBe(weight);
    expect(weight.device).toBe(deviceOf(device));
    expect(await weight.data()).toEqual(before);
    module.to("bf16");
    expect(weight.dtype).toBe("bf16");
    expect(weight.grad).toBeNull();
    expect(weight.requiresGrad).toBe(true);
    using out = noGrad(() => scope(() => module.forward(ones([1, 3], { device, dtype: "bf16" }))));
    expect(out.dtype).toBe("bf16");
    expect((await out.data()).length).toBe(2);
  });
});

test("nothing stays in memory", () => {
  const { memory } = { memory: () => deviceOf("cpu").memory().tensors };
  const before = memory();
  {
    using x = parameter(ones([4], { device: "cpu" }));
    using half = x.to("bf16");
    using same = half.to("bf16");
    same.dispose();
    x.move("f16");
  }
  expect(memory()).toBe(before);
});

test("invalid dtypes and devices", () => {
  using x = ones([1]);
  expectError(() => x.to("f64"), "ERR_DEVICE", /expected device .* got "f64"/);
  expectError(() => x.to(undefined as never), "ERR_ARGUMENT", /expected a dtype or a device, got undefined/);
  for (const junk of [null, 5, {}] as never[]) expectError(() => x.to(junk), "ERR_DEVICE", /expected device .* got/);
  x.dispose();
  expectError(() => x.to("bf16"), "ERR_DISPOSED");
});
