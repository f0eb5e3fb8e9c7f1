import { describe, expect, test } from "vitest";
import { HeedError } from "../../lib/errors.js";
import { cosineSchedule } from "../../lib/optim/schedule.js";

describe("cosineSchedule", () => {
  const schedule = cosineSchedule({ lr: 1, warmup: 10, steps: 110, minLr: 0.2 });

  test("rises in a line, falls by half a cosine, stays", () => {
    expect(schedule(0)).toBeCloseTo(0.1, 12);
    expect(schedule(4)).toBeCloseTo(0.5, 12);
    expect(schedule(9)).toBeCloseTo(1, 12);
    expect(schedule(10)).toBeCloseTo(1, 12);
    expect(schedule(60)).toBeCloseTo(0.6, 12); // half way: the mean of both ends
    expect(schedule(35)).toBeCloseTo(0.2 + 0.4 * (1 + Math.SQRT1_2), 12);
    expect(schedule(110)).toBe(0.2);
    expect(schedule(1e9)).toBe(0.2);
  });

  test("the lowest rate is a tenth unless given, and no warm-up starts at the top", () => {
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
