import { describe, expect, test } from "vitest";
import { HeedError } from "../../lib/util/errors.js";
import { cosineSchedule, linearSchedule, noamSchedule, wsdSchedule } from "../../lib/optim/schedule.js";

describe("cosineSchedule", () => {
  const schedule = cosineSchedule({ lr: 1, warmup: 10, steps: 110, minLr: 0.2 });

  test("rises linearly, falls along half a cosine, and then stays", () => {
    expect(schedule(0)).toBeCloseTo(0.1, 12);
    expect(schedule(4)).toBeCloseTo(0.5, 12);
    expect(schedule(9)).toBeCloseTo(1, 12);
    expect(schedule(10)).toBeCloseTo(1, 12);
    expect(schedule(60)).toBeCloseTo(0.6, 12); // half way: the mean of both ends
    expect(schedule(35)).toBeCloseTo(0.2 + 0.4 * (1 + Math.SQRT1_2), 12);
    expect(schedule(110)).toBe(0.2);
    expect(schedule(1e9)).toBe(0.2);
  });

  test("the lowest rate is a tenth by default, and without warm-up it starts at the top", () => {
    const plain = cosineSchedule({ lr: 0.5, steps: 10 });
    expect(plain(0)).toBe(0.5);
    expect(plain(10)).toBeCloseTo(0.05, 12);
  });

  test.each([
    { lr: -1, steps: 10 },
    { lr: NaN, steps: 10 },
    { lr: 1, steps: 0 },
    { lr: 1, steps: 10, warmup: 11 },
    { lr: 1, steps: 10, minLr: 2 },
  ])("refuses %o", (options) => {
    expect(() => cosineSchedule(options)).toThrow(HeedError);
  });
});

describe("linearSchedule", () => {
  test("rises and falls along straight lines, and then stays", () => {
    const schedule = linearSchedule({ lr: 1, warmup: 10, steps: 110, minLr: 0.2 });
    expect(schedule(4)).toBeCloseTo(0.5, 12);
    expect(schedule(10)).toBe(1);
    expect(schedule(35)).toBeCloseTo(0.8, 12);
    expect(schedule(60)).toBeCloseTo(0.6, 12);
    for (const step of [110, 1e9]) expect(schedule(step)).toBe(0.2);
    expect(linearSchedule({ lr: 1, steps: 4 })(3)).toBeCloseTo(0.25, 12);
  });
});

describe("wsdSchedule", () => {
  test("rises, stays, and falls at the end: along 1 − √x, or a straight line", () => {
    const options = { lr: 1, warmup: 10, steps: 110, decay: 40, minLr: 0.2 };
    const schedule = wsdSchedule(options);
    expect(schedule(4)).toBeCloseTo(0.5, 12);
    for (const step of [10, 40, 70]) expect(schedule(step)).toBe(1);
    expect(schedule(80)).toBeCloseTo(0.2 + 0.8 * (1 - 0.5), 12); // a quarter of the way
    expect(wsdSchedule({ ...options, shape: "linear" })(80)).toBeCloseTo(0.2 + 0.8 * 0.75, 12);
    for (const step of [110, 1e9]) expect(schedule(step)).toBe(0.2);
    // By default the last fifth falls, to 0; without a fall the rate stays.
    expect([79, 80, 99, 100].map(wsdSchedule({ lr: 1, steps: 100 }))).toEqual([1, 1, expect.closeTo(0.0253, 4), 0]);
    expect(wsdSchedule({ lr: 1, steps: 100, decay: 0 })(1e6)).toBe(1);
  });

  test.each([
    { lr: 1, steps: 10, warmup: 5, decay: 6 },
    { lr: 1, steps: 10, decay: -1 },
    { lr: 1, steps: 10, shape: "steep" },
    null,
  ])("refuses %o", (options) => {
    expect(() => wsdSchedule(options as never)).toThrow(HeedError);
    expect(() => linearSchedule({ lr: 1, steps: 0 })).toThrow(HeedError);
  });
});

describe("noamSchedule", () => {
  test("gives the paper's values for its base model", () => {
    const schedule = noamSchedule({ width: 512 });
    // d_model^-0.5 · step · warmup^-1.5 during the warm-up, computed by hand: 0.0441942 · 1 / 252982.
    expect(schedule(0)).toBeCloseTo(1.746928e-7, 12);
    expect(schedule(999)).toBeCloseTo(1.746928e-4, 9);
    // The peak, 1 / √(512 · 4000), and a quarter of it after sixteen times as many steps.
    expect(schedule(3999)).toBeCloseTo(6.987712e-4, 9);
    expect(schedule(63_999)).toBeCloseTo(6.987712e-4 / 4, 9);
  });

  test("rises linearly, falls with the inverse root, and the factor scales all of it", () => {
    const plain = noamSchedule({ width: 64, warmup: 10 });
    const doubled = noamSchedule({ width: 64, warmup: 10, factor: 2 });
    for (const step of [0, 3, 9, 10, 500]) expect(doubled(step)).toBeCloseTo(2 * plain(step), 12);
    expect(plain(4)).toBeCloseTo(plain(9) / 2, 12);
    expect(plain(39)).toBeCloseTo(plain(9) / 2, 12);
    expect(Math.max(...Array.from({ length: 100 }, (_, step) => plain(step)))).toBe(plain(9));
  });

  test.each([
    { width: 0 },
    { width: 1.5 },
    { width: 8, warmup: 0 },
    { width: 8, factor: -1 },
    { width: 8, factor: NaN },
    null,
  ])("refuses %o", (options) => {
    expect(() => noamSchedule(options as never)).toThrow(HeedError);
  });
});
