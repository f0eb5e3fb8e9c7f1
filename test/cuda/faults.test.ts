/**
 * Tests failures on a CUDA device and of its driver: each causes one HeedError that says what to do, and the process
 * continues. The software device injects the faults, each in a process of its own.
 */
import { expect, test } from "vitest";
import { needsSimulator, noCuda } from "../support/cuda.js";
import { patience, runChild } from "../support/child.js";
import { describeUnless } from "../support/skip.js";

/**
 * Runs a module that begins with these lines, and returns the last line that it prints, which is JSON. `said` must
 * match stderr.
 */
async function run<Result>(program: string, env: NodeJS.ProcessEnv, said = /^$/): Promise<Result> {
  const prelude = `
    /** Returns the error of a call, or of its promise, as "CODE message". */
    const failure = async (body) => {
      try {
        await body();
      } catch (error) {
        return error instanceof heed.HeedError ? error.code + " " + error.message : "no HeedError: " + error;
      }
      return "no error";
    };
    const onCpu = () => heed.sum(heed.ones([3], { device: "cpu" })).item();
    const done = (result) => console.log(JSON.stringify(result));
  `;
  const { seconds, ...ended } = await runChild(prelude + program, 50, env);
  expect(ended, "the child process").toMatchObject({ code: 0, signal: null, errors: expect.stringMatching(said) });
  expect(seconds).toBeLessThan(30 * patience);
  return JSON.parse(ended.output.trim().split("\n").at(-1)!) as Result;
}

const MiB = 2 ** 20;
/** Lets a program's calls return before the device reaches the launch that fails. */
const late = { HEED_SIMULATOR_DELAY: "300000" };

describeUnless(noCuda)("cuda: out of memory", () => {
  const env = { HEED_SIMULATOR_MEMORY: String(24 * MiB) };

  test("the cache is emptied first; then an error says how much is left, and smaller allocations still work", async (context) => {
    needsSimulator(context);
    const result = await run<Record<string, unknown>>(
      `
      const device = heed.device("cuda");
      const ones = (mib) => heed.ones([mib, 2 ** 18], { device });
      const kept = ones(4);
      const empty = device.memory();
      const sumOf = async (x) => {
        const total = heed.sum(x);
        const value = await total.item();
        total.dispose();
        return value;
      };
      ones(12).dispose();
      const cached = device.memory().cached;
      // 4 are live and 12 in the cache: 14 fit only once the cache is given back.
      const large = ones(14);
      const sum = await sumOf(large);
      large.dispose();
      const failures = [await failure(() => ones(21)), await failure(() => ones(21))];
      const others = [];
      const full = await failure(() => {
        for (;;) others.push(ones(2));
      });
      const held = others.length;
      // There is room for the number, which needs less than a page, but not for the sum.
      const inside = await failure(() => heed.add(kept, 1));
      for (const other of others) other.dispose();
      const after = await sumOf(ones(2));
      const host = await failure(() => heed.ones([2 ** 50], { device }));
      done({ empty, cached, sum, failures, full, held, inside, after, host, cpu: await onCpu() });
      `,
      env,
    );
    const { failures, ...rest } = result as { failures: string[] };
    const oom = (wanted: number, live: number, peak: string, free: string): unknown =>
      expect.stringMatching(
        new RegExp(
          `^ERR_OOM alloc: out of memory allocating ${wanted * MiB} bytes \\(${live} bytes live, peak ${peak}, ${free} free\\)$`,
        ),
      );
    expect(failures[0]).toEqual(oom(21, 4 * MiB, "\\d+", "\\d+"));
    expect(failures[1]).toBe(failures[0]);
    // Memory that is neither live nor free belongs to heed itself: reports and counters.
    const own = 20 * MiB - Number(/(\d+) free/.exec(failures[0]!)![1]);
    expect(own).toBeGreaterThan(0);
    expect(own).toBeLessThan(64 * 1024);
    const left = (mib: number): string => String(mib * MiB - own);
    expect(rest).toMatchObject({
      empty: { live: 4 * MiB, peak: 4 * MiB, cached: 0, tensors: 1 },
      cached: 12 * MiB,
      sum: 14 * 2 ** 18,
      held: 9,
      full: oom(2, 22 * MiB, String(22 * MiB), left(2)),
      inside: oom(4, 22 * MiB + 4, String(22 * MiB + 4), "\\d+"),
      after: 2 * 2 ** 18,
      host: "ERR_OOM alloc: expected to allocate less than 64 TiB, got 4503599627370496 bytes",
      cpu: 3,
    });
  });

  test("is reported at once, whatever is in the queue, if waiting for that would not help", async (context) => {
    needsSimulator(context);
    const result = await run<unknown>(
      `
      const device = heed.device("cuda");
      const kept = heed.empty([2 ** 20], { device });
      kept.set(new Float32Array(2 ** 20));
      const failed = await failure(() => heed.empty([2 ** 23], { device }));
      done({ failed: failed.split(" (")[0], uploading: device.memory().uploading });
      `,
      { ...env, HEED_SIMULATOR_DELAY: "2000000" },
    );
    const message = `ERR_OOM alloc: out of memory allocating ${32 * MiB} bytes`;
    expect(result).toEqual({ failed: message, uploading: 4 * MiB });
  });

  test("a device that cannot be opened for lack of memory leaves nothing behind", async (context) => {
    needsSimulator(context);
    const [failures, left] = await run<[string[], number]>(
      `
      import { readdirSync } from "node:fs";
      import { setTimeout as sleep } from "node:timers/promises";
      const open = () => failure(() => heed.ones([2], { device: "cuda" }));
      // The driver has a thread for each stream.
      const threads = () => readdirSync("/proc/self/task").length;
      const failures = [await open()];
      const before = threads();
      for (let i = 0; i < 20; i++) failures.push(await open());
      for (let i = 0; i < 100 && threads() > before; i++) await sleep(20);
      done([failures, threads() - before]);
      `,
      { HEED_SIMULATOR_MEMORY: "4096" },
    );
    expect(new Set(failures)).toEqual(
      new Set(["ERR_OOM device: allocating memory: out of memory (CUDA_ERROR_OUT_OF_MEMORY, 2)"]),
    );
    // A thread that had not yet ended when they were first counted may be gone.
    expect(left).toBeLessThanOrEqual(0);
  });

  test("in the middle of training leaves nothing behind, and a smaller batch trains", async (context) => {
    needsSimulator(context);
    const result = await run<Record<string, unknown>>(
      `
      const device = heed.device("cuda");
      const config = { vocabularySize: 31, contextLength: 64, layers: 4, heads: 1, width: 16 };
      const model = new heed.GPT(config, { device });
      const optimizer = new heed.AdamW(model.namedParameters());
      const before = device.memory();
      const step = async (batch) => {
        const ids = Int32Array.from({ length: batch * 64 }, (_, i) => i % 31);
        const loss = heed.scope(() => {
          const input = heed.tensor(ids, [batch, 64], { device });
          const loss = model.loss(input, input);
          loss.backward();
          return loss;
        });
        const value = await loss.item();
        loss.dispose();
        optimizer.step();
        optimizer.zeroGrad();
        return value;
      };
      const failures = [];
      for (let i = 0; i < 2; i++) failures.push((await failure(() => step(128))).replace(/\\d+/g, "n"));
      optimizer.zeroGrad();
      const after = device.memory();
      done({ failures: [...new Set(failures)], left: after.live - before.live, loss: await step(2) });
      `,
      { HEED_SIMULATOR_MEMORY: String(32 * MiB) },
    );
    const { failures, left, loss } = result as { failures: string[]; left: number; loss: number };
    expect(failures).toEqual([
      expect.stringMatching(/^ERR_OOM \w+: out of memory allocating n bytes \(n bytes live, peak n, n free\)$/),
    ]);
    // A thread that had not yet ended when they were first counted may be gone.
    expect(left).toBeLessThanOrEqual(0);
    expect(loss).toBeCloseTo(Math.log(31), 0);
  });
});

const lost = /the device is lost to this process, which must be started again$/;

describeUnless(noCuda)("cuda: a lost device", () => {
  const said = /^heed simulator: device 0: the device is lost[^\n]*\n$/;

  test("makes reads and every later call fail with ERR_CUDA; the CPU and the process still work", async (context) => {
    needsSimulator(context);
    const { reads, later, ...rest } = await run<{ reads: string[]; later: string[]; cpu: number; live: number }>(
      `
      const device = heed.device("cuda");
      const x = heed.ones([4], { device });
      const onHost = heed.ones([4], { device: "cpu" });
      await x.data();
      // The calls return before anything has run, so only the reads can report the failure.
      let y = x;
      for (let i = 0; i < 6; i++) y = heed.add(y, 1);
      const moved = y.to("cpu");
      const pending = [y.data(), moved.data(), device.synchronize()];
      const reads = await Promise.all(pending.map((promise) => failure(() => promise)));
      const later = [];
      // A call may return before the device refuses it: if it is behind one that waits for another device, the read
      // reports the failure.
      const reading = async (make) => {
        const made = make();
        await made.data().finally(() => made.dispose());
      };
      for (const body of [
        () => heed.add(x, 1),
        () => x.data(),
        () => heed.sum(x).item(),
        () => x.set([1, 2, 3, 4]),
        () => x.to("cpu"),
        () => onHost.to(device).data(),
        () => reading(() => heed.tensor([1, 2], [2], { device })),
        () => reading(() => heed.ones([2 ** 22], { device })),
        () => device.synchronize(),
        () => new heed.GPT({ vocabularySize: 5, contextLength: 4, layers: 1, heads: 1, width: 4 }, { device }),
      ])
        later.push(await failure(body));
      for (const tensor of [x, y, moved]) tensor.dispose();
      await device.emptyCache();
      device.resetPeak();
      done({ reads, later, cpu: await onCpu(), live: device.memory().live });
      `,
      { HEED_SIMULATOR_LOST_AFTER: "4", ...late },
      said,
    );
    for (const text of [...reads, ...later]) expect(text).toMatch(/^ERR_CUDA \w+: /);
    for (const text of [...reads, ...later]) expect(text).toMatch(lost);
    expect(reads[0]).toBe(
      "ERR_CUDA device: running the enqueued work: unspecified launch failure (CUDA_ERROR_LAUNCH_FAILED, 719); " +
        "the device is lost to this process, which must be started again",
    );
    expect(rest.cpu).toBe(3);
  });

  // The failure comes between two steps, and at several launches of one step.
  test.for(["400", "450", "457", "463", "470"])(
    "ends training and generation with an error, after %s",
    async (after, context) => {
      needsSimulator(context);
      const failures = await run<string[]>(
        `
      const config = { vocabularySize: 11, contextLength: 16, layers: 1, heads: 1, width: 8 };
      const model = new heed.GPT(config, { device: "cuda" });
      const data = heed.tokenData(Uint8Array.from({ length: 500 }, (_, i) => i % 11));
      const trainer = new heed.Trainer({ model, data, batchSize: 2, steps: 1000 });
      const failures = [await failure(() => trainer.train())];
      failures.push(await failure(() => heed.generateTokens(model, [[1]], { maxTokens: 10 })));
      done(failures);
      `,
        { HEED_SIMULATOR_LOST_AFTER: after },
        said,
      );
      for (const text of failures) expect(text).toMatch(lost);
    },
  );

  test("in a worker too, which ends like any worker", async (context) => {
    needsSimulator(context);
    const result = await run<unknown>(
      `
      const w = worker(\`
        const x = heed.ones([4], { device: "cuda" });
        try {
          await heed.add(heed.add(x, 1), 1).data();
        } catch (error) {
          parentPort.postMessage(error.code);
        }
      \`);
      const [[code]] = await Promise.all([once(w, "message"), once(w, "exit")]);
      // The device belongs to the process.
      const here = await failure(() => heed.ones([4], { device: "cuda" }).data());
      done([code, here.split(" ")[0], await onCpu()]);
      `,
      { HEED_SIMULATOR_LOST_AFTER: "1" },
      said,
    );
    expect(result).toEqual(["ERR_CUDA", "ERR_CUDA", 3]);
  });

  test("another device still works", async (context) => {
    needsSimulator(context);
    const result = await run<unknown>(
      `
      const first = await failure(async () => {
        for (let i = 0; i < 3; i++) await heed.ones([4], { device: "cuda:0" }).data();
      });
      const second = await heed.sum(heed.ones([4], { device: "cuda:1" })).item();
      done([first, second]);
      `,
      // Launches are counted for each device.
      { HEED_SIMULATOR_DEVICES: "2", HEED_SIMULATOR_LOST_AFTER: "2" },
      said,
    );
    expect(result).toEqual([expect.stringMatching(lost), 4]);
  });
});

describeUnless(noCuda)("cuda: a kernel that finds wrong data", () => {
  test("causes the CPU's error at a read of its output, even on another device, and affects nothing else", async () => {
    const program = `
      const ids = (...values) => heed.tensor(Int32Array.from(values), [values.length], { device });
      const table = heed.ones([5, 4], { device });
      const logits = heed.ones([2, 5], { device });
      const lengths = (value) => {
        const x = heed.ones([1, 3, 1, 4], { device });
        return heed.attention(x, x, x, { keyLengths: ids(value) });
      };
      const found = [];
      for (const body of [
        () => heed.embedding(ids(1, 7, 2), table).data(),
        () => heed.embedding(ids(1, -2), table).data(),
        () => heed.crossEntropy(logits, ids(0, 5)).data(),
        () => heed.sample(logits, ids(0, 1), { seed: 1, repetitionPenalty: 2 }, { history: heed.tensor([[9], [0]], [2, 1], { dtype: "i32", device }) }).data(),
        () => heed.cacheWrite(heed.zeros([1, 4, 1, 3], { device }), heed.ones([1, 2, 1, 3], { device }), ids(3)) ?? heed.device(device).synchronize(),
        () => lengths(4).data(),
        () => heed.embedding(ids(6), table).to(other).data(),
        () => heed.device(other).synchronize(),
        () => heed.device(device).synchronize(),
        () => heed.embedding(ids(4), table).to(other).data(),
      ])
        found.push(await failure(body));
      // Each of several failures is reported to a caller that waits for all work.
      heed.embedding(ids(8), table);
      heed.embedding(ids(9), table);
      found.push(await heed.sum(table).item());
      for (let i = 0; i < 3; i++) found.push(await failure(() => heed.device(device).synchronize()));
      done(found);
    `;
    const on = (device: string, other: string) =>
      run<unknown>(`const [device, other] = ["${device}", "${other}"];` + program, {});
    const cpu = await on("cpu", "cuda");
    expect(cpu).toEqual([
      "ERR_RANGE embedding_forward: expected ids in [0, 5), got 7 at position 1",
      "ERR_RANGE embedding_forward: expected ids in [0, 5), got -2 at position 1",
      "ERR_RANGE cross_entropy: expected targets in [0, 5), got 5 at position 1",
      "ERR_RANGE sample: expected ids of earlier tokens below 5, got 9 at position 0 of row 0",
      "ERR_RANGE cache_write: expected starts from 0 to 2, got 3",
      "ERR_RANGE attention_forward: expected key_lengths from 0 to 3, got 4",
      "ERR_RANGE embedding_forward: expected ids in [0, 5), got 6 at position 0",
      "no error",
      "no error",
      "no error",
      20,
      "ERR_RANGE embedding_forward: expected ids in [0, 5), got 8 at position 0",
      "ERR_RANGE embedding_forward: expected ids in [0, 5), got 9 at position 0",
      "no error",
    ]);
    expect(await on("cuda", "cpu")).toEqual(cpu);
  });

  test("crosses devices that are both CUDA", async (context) => {
    needsSimulator(context);
    const found = await run<unknown>(
      `
      const ids = heed.tensor(Int32Array.of(6), [1], { device: "cuda:0" });
      const there = heed.embedding(ids, heed.ones([5, 4], { device: "cuda:0" })).to("cuda:1");
      const back = heed.add(there, 1).to("cpu");
      done([await failure(() => back.data()), await failure(() => there.data()), await heed.ones([1], { device: "cuda:1" }).item()]);
      `,
      { HEED_SIMULATOR_DEVICES: "2" },
    );
    const message = "ERR_RANGE embedding_forward: expected ids in [0, 5), got 6 at position 0";
    expect(found).toEqual([message, message, 1]);
  });
});

describeUnless(noCuda)("cuda: a kernel that the driver stops", () => {
  const stop = { HEED_SIMULATOR_LIMIT: "1000" };
  const program = `
    const x = heed.ones([2 ** 18], { device: "cuda" });
    done([await failure(() => x.data()), await failure(() => heed.add(x, 1)), await onCpu()]);
  `;

  test("is ERR_CUDA at the read, and loses the device", async (context) => {
    needsSimulator(context);
    const [read, next, cpu] = await run<[string, string, number]>(
      program,
      { ...stop, ...late },
      /^heed simulator: device 0: .*\n$/,
    );
    expect(read).toBe(
      "ERR_CUDA device: running the enqueued work: the launch timed out and was terminated " +
        "(CUDA_ERROR_LAUNCH_TIMEOUT, 702); the device is lost to this process, which must be started again",
    );
    expect(next).toMatch(lost);
    expect(cpu).toBe(3);
  });

  test("is named at the call with HEED_CUDA_BLOCKING=1", async (context) => {
    needsSimulator(context);
    const result = await run<string>(
      `done(await failure(() => heed.ones([2 ** 18], { device: "cuda" })));`,
      { ...stop, HEED_CUDA_BLOCKING: "1" },
      /^heed simulator: device 0: .*\n$/,
    );
    expect(result).toMatch(/^ERR_CUDA fill: fill_4: the launch timed out .*; the device is lost to this process/);
  });
});

describeUnless(noCuda)("cuda: drivers and devices that cannot be used", () => {
  /** Returns the answers of `devices()` and `device()` about CUDA; "auto" is then the CPU. */
  const asked = `
    const cuda = heed.devices().filter(({ name }) => name.startsWith("cuda"));
    const failed = await failure(() => heed.device("cuda"));
    const inUse = await failure(() => heed.ones([2], { device: "cuda:0" }));
    done({ cuda, failed, inUse, auto: heed.device("auto").name, cpu: await onCpu() });
  `;
  const answer = async (env: NodeJS.ProcessEnv): Promise<{ cuda: unknown[]; failed: string; inUse: string }> => {
    const { auto, cpu, ...rest } = await run<Awaited<ReturnType<typeof answer>> & { auto: string; cpu: number }>(
      asked,
      { HEED_DEVICE: "", ...env },
    );
    expect([auto, cpu]).toEqual(["cpu", 3]);
    return rest;
  };
  const refusals = (description: string) => ({
    failed: `ERR_DEVICE device "cuda" is not available: ${description}`,
    inUse: `ERR_DEVICE device "cuda:0" is not available: ${description}`,
  });
  const unavailable = (description: string) => ({
    cuda: [{ name: "cuda", available: false, description }],
    ...refusals(description),
  });

  test("the version of a driver that is too old", async (context) => {
    needsSimulator(context);
    const description = "expected a driver of CUDA 11.4 (version 470) or later, got one of CUDA 11.3";
    expect(await answer({ HEED_SIMULATOR_DRIVER_VERSION: "11030" })).toEqual(unavailable(description));
    const { cuda } = await answer({ HEED_SIMULATOR_DRIVER_VERSION: "11040", HEED_SIMULATOR_CAPABILITY: "75" });
    expect(cuda).toMatchObject([{ name: "cuda:0", driverVersion: "11.4" }]);
  });

  test("the compute capability of a device that is too old", async (context) => {
    needsSimulator(context);
    const { cuda, failed, inUse } = await answer({ HEED_SIMULATOR_CAPABILITY: "75" });
    const description =
      "heed software device, 2.0 GiB, compute capability 7.5, CUDA 12.2: " +
      "expected compute capability 8.0 or later, got 7.5";
    expect(cuda).toEqual([
      {
        name: "cuda:0",
        available: false,
        description,
        memory: 2 ** 31,
        computeCapability: "7.5",
        driverVersion: "12.2",
      },
    ]);
    expect({ failed, inUse }).toEqual(refusals(description));
  });

  test("no device", async (context) => {
    needsSimulator(context);
    const description = "the CUDA driver shows no device";
    expect(await answer({ HEED_SIMULATOR_DEVICES: "0" })).toEqual(unavailable(description));
  });

  test("a device that does not exist", async (context) => {
    needsSimulator(context);
    const said = await run<string>(`done(await failure(() => heed.device("cuda:2")));`, {
      HEED_SIMULATOR_DEVICES: "2",
    });
    expect(said).toBe('ERR_DEVICE device "cuda:2" is not available: the last CUDA device is "cuda:1"');
  });
});
