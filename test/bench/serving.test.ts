import { setTimeout } from "node:timers/promises";
import { expect, test } from "vitest";
import { drive, type Load, type Server } from "../../bench/serving/drive.js";
import { figuresOf } from "../../bench/serving/figures.js";
import { arrivalsOf, firstRequests, longest, meanAnswer, type Traffic } from "../../bench/serving/load.js";
import { chosen, fullPlan } from "../../bench/serving/plan.js";
import { findingsOf, type ServingRun, servingSection, shortfalls } from "../../bench/serving/report.js";

const traffic: Traffic = { prompt: [16, 400], answer: [16, 128], shared: 5 };

test("requests follow from the seed, and their lengths from the traffic", () => {
  const requests = firstRequests(traffic, 300, 1, 2000);
  expect(firstRequests(traffic, 300, 1, 2000)).toEqual(requests);
  expect(firstRequests(traffic, 300, 2, 1)).not.toEqual(requests.slice(0, 1));
  for (const { tokens, maxTokens } of requests) {
    expect(tokens.slice(0, 5)).toEqual(requests[0]!.tokens.slice(0, 5));
    expect(tokens.length).toBeGreaterThanOrEqual(5 + 16);
    expect(tokens.length + maxTokens).toBeLessThanOrEqual(longest(traffic));
    expect(tokens.every((token) => token >= 8 && token < 300)).toBe(true);
  }
  const mean = requests.reduce((sum, { maxTokens }) => sum + maxTokens, 0) / requests.length;
  expect(Math.abs(mean / meanAnswer(traffic) - 1)).toBeLessThan(0.05);
});

test("arrivals are a Poisson process of the rate", () => {
  const times = arrivalsOf(50, 100, 3);
  expect(Math.abs(times.length / 5000 - 1)).toBeLessThan(0.05);
  const gaps = times.slice(1).map((time, i) => time - times[i]!);
  // The times between arrivals are exponential, so their standard deviation is their mean.
  const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
  const variance = gaps.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / gaps.length;
  expect(Math.abs(Math.sqrt(variance) / mean - 1)).toBeLessThan(0.1);
});

test("figures count what lies within the window", () => {
  const traces = [
    { start: 0, tokens: [90, 110, 150], end: 150 },
    { start: 100, tokens: [130, 190, 230], end: 230 },
    { start: 160, tokens: [], end: NaN },
  ];
  expect(figuresOf(traces, [100, 200], { pause: 1, memory: null })).toEqual({
    ...{ tokensPerSecond: 40, requestsPerSecond: 10, pause: 1, memory: null },
    firstToken: { p50: 30, p99: 30, max: 30 },
    betweenTokens: { p50: 40, p99: 60, max: 60 },
  });
});

/** Returns a server that answers after a millisecond a token, and the most requests that it had at the same time. */
function fake(): { server: Server; most: () => number } {
  let [running, most] = [0, 0];
  const server: Server = {
    vocabulary: 100,
    device: null,
    async *answer({ maxTokens }, signal) {
      most = Math.max(most, ++running);
      try {
        for (let i = 0; i < maxTokens; i++) {
          await setTimeout(1, null, { signal });
          yield i;
        }
      } finally {
        running--;
      }
    },
    close: () => Promise.resolve(),
  };
  return { server, most: () => most };
}

test.each<[string, Load & { callers?: number }]>([
  ["closed", { kind: "closed", callers: 5, traffic: { prompt: [2, 4], answer: [2, 9] }, seconds: 0.2, seed: 1 }],
  ["open", { kind: "open", rate: 100, traffic: { prompt: [2, 4], answer: [2, 9] }, seconds: 0.2, seed: 1 }],
])("a %s loop measures a server", async (_, load) => {
  const { server, most } = fake();
  const figures = await drive(server, load, 0);
  expect(figures.tokensPerSecond).toBeGreaterThan(0);
  expect(figures.betweenTokens!.p50).toBeGreaterThan(0.5);
  if (load.kind === "closed") expect(most()).toBe(5);
});

test("an answer that is too short fails the run", async () => {
  const { server } = fake();
  const short: Server = { ...server, answer: (request) => server.answer({ ...request, maxTokens: 1 }) };
  const load: Load = { kind: "closed", callers: 2, traffic: { prompt: [2, 2], answer: [3, 3] }, seconds: 0.1, seed: 1 };
  await expect(drive(short, load, 0)).rejects.toThrow("expected an answer of 3 tokens, got 1");
});

test("rows are chosen by parts of their names", () => {
  expect(chosen(fullPlan(), [""])).toEqual(fullPlan());
  const [plan, ...others] = chosen(fullPlan(), ["gpt2 bf16 8 callers"]);
  expect(others).toEqual([]);
  expect(plan).toMatchObject({ model: "gpt2", format: "bf16", loads: [{ callers: 8 }], scenarios: [] });
});

test("the page has the figures, and says which goals are short", () => {
  const times = { p50: 1, p99: 2, max: 3 };
  const heed = {
    tokensPerSecond: 140,
    requestsPerSecond: 2,
    firstToken: times,
    betweenTokens: times,
    pause: 4,
    memory: 0,
  };
  const row = { model: "gpt2", format: "bf16", load: "8 callers" } as const;
  const results = { heed, "llama.cpp": { ...heed, tokensPerSecond: 100 } };
  const run: ServingRun = {
    ...{ machine: "a machine", date: "2026-01-01", threads: 2, seconds: 1, peers: {}, scenarios: [] },
    rows: [{ ...row, results }],
  };
  expect(findingsOf(run.rows[0]!).map(({ got }) => got)).toEqual([4, 1.4, 2]);
  expect(shortfalls(run)).toMatch(/^2 of 3 goals of serving met; not met:\n {2}gpt2, bf16: 8 callers: speed/);
  expect(servingSection(run, null)).toContain("| 8 callers | heed | 140 | 2 | 1 / 2 / 3 | 1 / 2 / 3 | 4 | 0 MiB |");
});
