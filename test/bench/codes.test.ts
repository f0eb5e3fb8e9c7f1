/** Tests how bench:codes reads what llama.cpp's programs print, and what its section of the page says. */
import { chmodSync, writeFileSync } from "node:fs";
import path from "node:path";
import { expect, test, vi } from "vitest";
import { batchedMilliseconds, found, llama } from "../../bench/codes/contenders.js";
import { workOf } from "../../bench/codes/bounds.js";
import { codesSection, type CodesRun, line, ratiosOf } from "../../bench/codes/report.js";
import type { Statistics } from "../../bench/statistics.js";
import { temporaryFolder } from "../support/folder.js";

/** A table as llama-batched-bench prints it, with what it prints before. */
const printed = `main: n_kv_max = 4096, n_batch = 2048

|    PP |     TG |    B |   N_KV |   T_PP s | S_PP t/s |   T_TG s | S_TG t/s |      T s |    S t/s |
|-------|--------|------|--------|----------|----------|----------|----------|----------|----------|
|    60 |     64 |    8 |    992 |    1.250 |   384.00 |    2.250 |   227.56 |    3.500 |   283.43 |
`;

/** Returns a folder with programs that print this. */
function programs(json: string, table: string): string {
  const folder = temporaryFolder();
  for (const [name, text] of [
    ["llama-bench", json],
    ["llama-batched-bench", table],
  ] as const) {
    const file = path.join(folder, name);
    writeFileSync(file, `#!/bin/sh\ncat <<'END'\n${text}\nEND\n`);
    chmodSync(file, 0o755);
  }
  return folder;
}

test("the time of a row of llama-batched-bench is the whole time", () => {
  expect(batchedMilliseconds(printed, 8)).toBe(3500);
  expect(() => batchedMilliseconds(printed, 32)).toThrow(/expected a row of 32 sequences, got /);
});

test("programs say their version and their times", async () => {
  const folder = programs('[{"build_commit": "abc", "build_number": 7, "samples_ns": [2000000, 3000000]}]', printed);
  vi.stubEnv("SOME_PROGRAMS", folder);
  const one = { name: "llama.cpp", variable: "SOME_PROGRAMS" };
  expect(await found(one, "x.gguf")).toEqual({ folder, version: "7 (abc)" });
  const timesOf = (task: Parameters<typeof llama>[3]) => llama("llama.cpp", folder, "x.gguf", task, 2).time(1, 2);
  expect(await timesOf({ name: "prefill", prompt: 512 })).toEqual([2, 3]);
  expect(await timesOf({ name: "decode", count: 32 })).toEqual([2, 3]);
  expect(await timesOf({ name: "callers", callers: 8, prompt: 60, count: 64 })).toEqual([3500, 3500]);
  vi.stubEnv("SOME_PROGRAMS", temporaryFolder());
  await expect(found(one, "x.gguf")).rejects.toThrow(/has no llama-bench/);
  vi.stubEnv("SOME_PROGRAMS", "");
  await expect(found(one, "x.gguf")).rejects.toThrow(/SOME_PROGRAMS does not name a folder/);
});

test("the section has tokens a second, ratios and what they should be", () => {
  const times = (median: number): Statistics => ({ median, quartiles: [median, median], min: median, runs: 5 });
  const run: CodesRun = {
    ...{ machine: "A (avx512vnni, 2 threads)", date: "2026-01-02", threads: 2, rounds: 3, model: "A model." },
    peers: { "llama.cpp": { version: "7" }, "ik_llama.cpp": { error: "none" } },
    rows: [
      {
        ...{ file: "Q4_0", task: { name: "prefill", prompt: 512 } },
        results: { heed: times(2000), "heed, 8 bits": times(1000), "llama.cpp": times(3000) },
      },
      {
        ...{ file: "Q4_0", task: { name: "callers", callers: 8, prompt: 60, count: 64 } },
        results: { heed: times(2048), "llama.cpp": { error: "ended" } },
      },
      { file: "F16", task: { name: "prefill", prompt: 512 }, results: { heed: times(2500) } },
      { file: "another", given: true, task: { name: "prefill", prompt: 512 }, results: { heed: times(1000) } },
    ],
  };
  expect(ratiosOf(run.rows[0]!)).toEqual([1.5, 3, null]);
  const section = codesSection(run);
  expect(section).toContain("| Q4_0 | prefill of 512 | 256 | 512 | 171 | – | 1.5 (1.2) | 3 (2.2) | – | 1.25 |");
  expect(section).toContain("| F16 | prefill of 512 | 205 | – | – | – | – | – | – | – |");
  expect(section).toContain("| another | prefill of 512 | 512 | – | – | – | – | – | – | – |");
  // Eight answers of 64 tokens in 2,048 ms
  expect(section).toContain("| Q4_0 | 8 callers | 250 | – | – | – | – | – | – | – |");
  expect(section).toContain("llama.cpp 7; without ik_llama.cpp (none)");
  const first = line(run.rows[0]!, run);
  expect(first).toContain("heed ÷ llama.cpp 1.5 (goal 1.2, met)");
  expect(first).toContain("heed ÷ its own F16 1.25 (goal 1, met)");
  expect(line(run.rows[1]!, run)).toContain("llama.cpp: ended");
  // With AVX2 less is wanted.
  const other = { ...run, machine: "A (avx2, 2 threads)" };
  expect(codesSection(other)).toContain(
    "| Q4_0 | prefill of 512 | 256 | 512 | 171 | – | 1.5 (1) | 3 (1.2) | – | 1.25 |",
  );
  expect(line(run.rows[0]!, other)).toContain("heed ÷ llama.cpp 1.5 (goal 1, met)");
});

test("a row that misses a goal says what bounds it", () => {
  const times = (median: number): Statistics => ({ median, quartiles: [median, median], min: median, runs: 5 });
  const sizes = {
    vocabularySize: 1000,
    width: 64,
    feedForwardWidth: 128,
    heads: 4,
    kvHeads: 2,
    headSize: 16,
    layers: 3,
  };
  const config = { ...sizes, contextLength: 64 };
  const layer = 64 * 64 + 2 * 64 * 32 + 64 * 64 + 3 * 64 * 128;
  const decode = { name: "decode", count: 10 } as const;
  const callers = { name: "callers", callers: 8, prompt: 5, count: 7 } as const;
  expect(workOf(config, decode, 500)).toEqual({ bytes: 500, products: 2 * 10 * (3 * layer + 64_000) });
  expect(workOf(config, { name: "prefill", prompt: 9 }, 500).products).toBe(2 * (9 * 3 * layer + 64_000));
  expect(workOf(config, callers, 500).products).toBe(2 * 8 * (11 * 3 * layer + 7 * 64_000));
  const run: CodesRun = {
    ...{
      machine: "A (avx512vnni, 2 threads)",
      date: "2026-01-02",
      threads: 2,
      rounds: 3,
      model: "A model.",
      peers: {},
    },
    peaks: { f32: 100, bytes: 400, read: 20 },
    rows: [
      {
        ...{ file: "Q4_0", task: decode, work: { bytes: 1e9, products: 1 } },
        results: { heed: times(1000), "heed, 8 bits": times(500), "llama.cpp": times(1000) },
      },
      {
        ...{ file: "Q4_0", task: callers, work: { bytes: 1, products: 1e11 } },
        results: { heed: times(1000), "heed, 8 bits": times(1000), "llama.cpp": times(1000) },
      },
      {
        file: "F16",
        task: callers,
        work: { bytes: 1, products: 5e10 },
        results: { heed: times(1000), "llama.cpp": times(1000) },
      },
    ],
  };
  const section = codesSection(run);
  expect(section).toContain(
    "- Q4_0, decode of 10, heed: it reads 10.0 GB of weights a second, 50 % of what the memory gives (20.0).",
  );
  expect(section).not.toContain("decode of 10, heed, 8 bits");
  // Without vectors of bytes, codes are multiplied as floats. What a matrix unit can do is not measured.
  const elsewhere = (isa: string, rows = run.rows): string =>
    codesSection({ ...run, rows, machine: `A (${isa}, 2 threads)`, peaks: { ...run.peaks!, words: 250 } });
  expect(elsewhere("avx512")).toContain(
    "Q4_0, 8 callers, heed: it does 100·10⁹ operations a second with floats, 100 %",
  );
  // AVX2 multiplies two digits as one number of 16 bits, and codes of 8 bits by nothing else.
  const slow = [{ ...run.rows[1]!, results: { ...run.rows[1]!.results, "llama.cpp": times(900) } }];
  const avx2 = elsewhere("avx2", [...slow, { ...slow[0]!, file: "Q8_0" }]);
  expect(avx2).toContain("Q4_0, 8 callers, heed: it does 100·10⁹ operations a second with numbers of 16 bits, 40 %");
  expect(avx2).toContain("Q4_0, 8 callers, heed, 8 bits: it does 100·10⁹ operations a second with bytes, 25 %");
  expect(avx2).toContain("Q8_0, 8 callers, heed, 8 bits: it does 100·10⁹ operations a second with numbers of 16 bits");
  expect(elsewhere("avx512amx")).toContain("Q4_0, decode of 10, heed: it reads 10.0 GB");
  expect(elsewhere("avx512amx")).not.toContain("operations a second");
  expect(section).toContain(
    "8 callers, heed: it does 200·10⁹ operations a second with bytes, 2 for each activation, 50 %",
  );
  expect(section).toContain("8 callers, heed, 8 bits: it does 100·10⁹ operations a second with bytes, 25 %");
  expect(section).toContain(
    "F16, 8 callers, heed: it does 50·10⁹ operations a second with floats, 50 % of what the cores can do (100)",
  );
});
