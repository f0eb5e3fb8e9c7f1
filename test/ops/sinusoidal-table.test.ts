import { expect, test } from "vitest";
import { sinusoidalTable, type SinusoidalTableOptions } from "../../lib/ops/sinusoidal-table.js";
import { expectError } from "../support/errors.js";
import { onEachDevice } from "../support/targets.js";

onEachDevice(() => {
  const rowsOf = async (options: SinusoidalTableOptions): Promise<number[][]> => {
    using table = sinusoidalTable(options);
    expect(table.shape).toEqual([options.length, options.width]);
    return (await table.toArray()) as number[][];
  };

  const close = (got: readonly number[], expected: readonly number[]): void => {
    expect(got.length).toBe(expected.length);
    for (const [i, value] of expected.entries()) expect(got[i]).toBeCloseTo(value, 6);
  };

  test("the paper's: sines and cosines of pos / 10000^(2i/C) beside each other", async () => {
    const rows = await rowsOf({ width: 8, length: 60 });
    close(rows[0]!, [0, 1, 0, 1, 0, 1, 0, 1]);
    const [s, c] = [Math.sin, Math.cos];
    close(rows[1]!, [s(1), c(1), s(0.1), c(0.1), s(0.01), c(0.01), s(0.001), c(0.001)]);
    close(rows[57]!, [s(57), c(57), s(5.7), c(5.7), s(0.57), c(0.57), s(0.057), c(0.057)]);
  });

  test("tensor2tensor's: halves, whose slowest pair has the wavelength 10000·2π", async () => {
    const rows = await rowsOf({ width: 6, length: 3, layout: "halves", inclusive: true });
    const [s, c] = [Math.sin, Math.cos];
    close(rows[0]!, [0, 0, 0, 1, 1, 1]);
    close(rows[2]!, [s(2), s(0.02), s(0.0002), c(2), c(0.02), c(0.0002)]);
    close((await rowsOf({ width: 2, length: 2, inclusive: true }))[1]!, [s(1), c(1)]);
  });

  test("positions begin at the given start", async () => {
    const whole = await rowsOf({ width: 10, length: 9, layout: "halves" });
    expect(await rowsOf({ width: 10, length: 6, layout: "halves", first: 3 })).toEqual(whole.slice(3));
    expect(await rowsOf({ width: 4, length: 0 })).toEqual([]);
  });

  test("moving by k positions rotates each pair by the same angle (§3.5)", async () => {
    const rows = await rowsOf({ width: 6, length: 40 });
    for (const [t, k] of [
      [3, 5],
      [20, 17],
    ] as const)
      for (let i = 0; i < 3; i++) {
        const angle = k / 10_000 ** (i / 3);
        const [sine, cosine] = rows[t]!.slice(2 * i) as [number, number];
        const turned = [
          sine * Math.cos(angle) + cosine * Math.sin(angle),
          cosine * Math.cos(angle) - sine * Math.sin(angle),
        ];
        close(rows[t + k]!.slice(2 * i, 2 * i + 2), turned);
      }
  });

  test("refuses invalid options", () => {
    const good = { width: 4, length: 3 };
    expectError(() => sinusoidalTable({ ...good, width: 3 }), "ERR_RANGE");
    expectError(() => sinusoidalTable({ ...good, width: 0 }), "ERR_RANGE");
    expectError(() => sinusoidalTable({ ...good, length: -1 }), "ERR_RANGE");
    expectError(() => sinusoidalTable({ ...good, length: 2 ** 30 }), "ERR_RANGE");
    expectError(() => sinusoidalTable({ ...good, first: 0.5 }), "ERR_RANGE");
    expectError(() => sinusoidalTable({ ...good, layout: "quarters" as never }), "ERR_ARGUMENT");
    expectError(() => sinusoidalTable({ ...good, inclusive: "yes" as never }), "ERR_ARGUMENT");
    expectError(() => sinusoidalTable(null as never), "ERR_ARGUMENT");
  });
});
