/** Tests how contenders are timed: enough runs, a warm one before them, and again if something disturbed them. */
import { expect, test } from "vitest";
import { Clock, sampleOf } from "../../bench/clock.js";
import { spreadOf, statistics } from "../../bench/statistics.js";
import { type Contender, leastRuns, takeTurns } from "../../bench/turns.js";

test("a clock takes a run that does not count, and then at least as many as are wanted", async () => {
  let runs = 0;
  // The runs last longer than the turn, by their own account and by the clock.
  const clock = new Clock(async () => {
    await new Promise((resolve) => setTimeout(resolve, 5));
    return ++runs;
  });
  expect(await clock.times(0.001, 3)).toEqual([2, 3, 4]);
  expect(await clock.times(0.001, 1)).toEqual([6]);
  expect(await clock.once()).toBe(7);
});

test("a clock goes on until its seconds are over", async () => {
  const clock = new Clock(sampleOf(() => new Promise((resolve) => setTimeout(resolve, 1))));
  const start = performance.now();
  const samples = await clock.times(0.05, 1);
  expect(performance.now() - start).toBeGreaterThan(50);
  expect(samples.length).toBeGreaterThan(5);
});

/** Returns a contender whose turns take the next of the given lists of times each, and the `least` of each turn. */
function scripted(name: string, turns: (number[] | Error)[]): { contender: Contender; least: number[] } {
  const least: number[] = [];
  const time = (_: number, wanted: number): Promise<number[]> => {
    least.push(wanted);
    const turn = turns[least.length - 1] ?? new Error("a turn too many");
    return turn instanceof Error ? Promise.reject(turn) : Promise.resolve(turn);
  };
  return { contender: { name, time }, least };
}

const steady = [10, 10];
const shaken = [10, 12];

test("turns have five runs together, whatever the number of turns", async () => {
  for (const [rounds, expected] of [
    [1, [5]],
    [2, [3, 2]],
    [3, [2, 2, 1]],
    [6, [1, 1, 1, 1, 1, 1]],
  ] as const) {
    const least: number[] = [];
    const time: Contender["time"] = (seconds, wanted) => {
      expect(seconds).toBeCloseTo(1 / rounds, 12);
      least.push(wanted);
      return Promise.resolve(Array.from({ length: wanted }, () => 7));
    };
    const times = await takeTurns([{ name: "a", time }], { seconds: 1, rounds });
    expect(least).toEqual(expected);
    expect(times.get("a")).toEqual({ median: 7, quartiles: [7, 7], min: 7, runs: Math.max(leastRuns, rounds) });
  }
});

test("a row that spreads is measured again, with all contenders", async () => {
  const [a, b] = [scripted("a", [shaken, shaken, [9, 9], steady]), scripted("b", [steady, steady, [9, 9], steady])];
  const times = await takeTurns([a.contender, b.contender], { seconds: 1, rounds: 2 });
  for (const name of ["a", "b"]) expect(times.get(name)).toEqual(statistics([9, 9, 10, 10]));
  for (const { least } of [a, b]) expect(least).toEqual([3, 3, 3, 3]);
});

test("of two attempts that spread, the better one counts for all contenders", async () => {
  for (const [first, second, better] of [
    [[10, 15], [10, 20], 0],
    [[10, 20], [10, 15], 1],
  ] as const) {
    const [a, b] = [scripted("a", [[...first], [...second]]), scripted("b", [[1, 1], [2, 2]])]; // prettier-ignore
    const times = await takeTurns([a.contender, b.contender], { seconds: 1, rounds: 1 });
    expect(times.get("a")).toEqual(statistics([10, 15]));
    expect(times.get("b")!).toMatchObject({ median: better + 1 });
    expect(a.least).toHaveLength(2);
  }
  expect(spreadOf(statistics([10, 15]))).toBeGreaterThan(0.15);
});

test("a contender that fails has its error, and the others go on without it", async () => {
  const failure = new Error("out of memory");
  const [a, b] = [scripted("a", [[10, 20], steady]), scripted("b", [steady, failure])];
  const times = await takeTurns([a.contender, b.contender], { seconds: 1, rounds: 1 });
  expect(times.get("a")).toEqual(statistics(steady));
  expect(times.get("b")).toBe(failure);
  expect([a.least.length, b.least.length]).toEqual([2, 2]);
});

test("a quick row has a run a turn and is not measured again", async () => {
  const a = scripted("a", [[10], [20]]);
  const times = await takeTurns([a.contender], { seconds: 1, rounds: 2, quick: true });
  expect(times.get("a")).toEqual(statistics([10, 20]));
  expect(a.least).toEqual([1, 1]);
});
