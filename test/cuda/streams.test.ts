/**
 * Tests driver behaviour that otherwise appears only on a card: one thread for the host functions of all streams,
 * contexts that report a lost device, little memory to pin, and cards that cannot read each other's memory. The
 * software device has a mode for each (docs/simulator.md).
 */
import { pathToFileURL } from "node:url";
import { expect, test } from "vitest";
import { besideSimulator, needsSimulator, noCuda } from "../support/cuda.js";
import { expectChild, runChild } from "../support/child.js";
import { dist } from "../support/dist.js";
import { describeUnless } from "../support/skip.js";

const MiB = 2 ** 20;

/** Work that keeps a device busy for some tenths of a second, on the software device, whose launches are slow here. */
const prelude = `
  const busy = (device, times = 10) => {
    const [size, count] = device === "cpu" ? [512, times] : [16, times];
    const a = heed.ones([size, size], { device });
    for (let i = 0; i < count; i++) heed.matmul(a, a).dispose();
    a.dispose();
  };
  const failure = (promise) => promise.then(() => "no error", (error) => error.code + " " + error.message);
`;
const slow = { HEED_SIMULATOR_LAUNCH_TIME: "20000" };

describeUnless(noCuda)("cuda: copies between devices", () => {
  const round = `
    const here = heed.ones([1000], { device: "cpu" });
    busy("cuda:0");
    const there = here.to("cuda:0");
    const beyond = heed.add(there, 1).to("cuda:1");
    const back = heed.add(beyond.to("cpu"), 1).to("cuda:0");
    console.log(await heed.sum(back).item());
  `;

  test.for(["0", "1"])("do not each need a thread of the driver, peers: %s", async (peers, context) => {
    needsSimulator(context);
    const env = {
      ...slow,
      HEED_SIMULATOR_DEVICES: "2",
      HEED_SIMULATOR_CALLBACK_THREAD: "1",
      HEED_SIMULATOR_PEERS: peers,
    };
    const { output, errors, code, signal } = await runChild(prelude + round, 20, env);
    expect({ output, errors, code, signal }).toEqual({ output: "3000\n", errors: "", code: 0, signal: null });
  });

  test("calls behind a copy that waits keep their order, and the thread waits for none of them", async (context) => {
    needsSimulator(context);
    const output = await expectChild(
      `${prelude}
      const device = heed.device("cuda");
      const config = { vocabularySize: 11, contextLength: 8, layers: 1, heads: 1, width: 8 };
      const expected = await heed.generateTokens(new heed.GPT(config, { device, seed: 1 }), [[1]], { temperature: 0, maxTokens: 6 });
      const x = heed.zeros([4], { device });
      const model = new heed.GPT(config, { device: "cpu", seed: 1 });
      await x.data();
      const start = performance.now();
      busy("cpu", 40);
      const source = heed.full([4], 5, { device: "cpu" });
      x.set([1, 2, 3, 4]);
      const arrived = source.to(device);
      const sums = heed.add(x, arrived);
      x.set([9, 9, 9, 9]);
      const first = x.data();
      x.set([8, 8, 8, 8]);
      const wide = heed.ones([2 ** 20], { device });
      const read = wide.data();
      wide.set(new Float32Array(2 ** 20));
      arrived.dispose();
      const noise = heed.full([4], 7, { device });
      model.to(device);
      // Its steps are recorded while their model is in transit.
      const generated = heed.generateTokens(model, [[1]], { temperature: 0, maxTokens: 6 });
      const called = performance.now() - start;
      const time = await device.elapsed(() => heed.add(x, 1).dispose());
      const waited = performance.now() - start;
      const all = [sums, x, noise].map(async (tensor) => (await tensor.data()).join());
      console.log((await Promise.all(all)).join(" "), (await first).join(), (await read).every((value) => value === 1));
      console.log(heed.device("cuda").memory().uploading, time >= 0, called * 2 < waited);
      const tokens = (results) => JSON.stringify(results.map((result) => result.tokens));
      console.log(tokens(await generated) === tokens(expected));
      `,
    );
    expect(output.split("\n")).toEqual(["6,7,8,9 8,8,8,8 7,7,7,7 9,9,9,9 true", "0 true true", "true"]);
  });

  test("do not hold values that are set behind them, however large they are", async (context) => {
    needsSimulator(context);
    const output = await expectChild(
      `${prelude}
      const large = heed.empty([34 * 2 ** 20], { device: "cpu" });
      const x = heed.zeros([4], { device: "cuda" });
      await x.data();
      // Other work of the machine may hold up the calls once, but not each time.
      let held = true;
      for (let times = 1; held && times <= 8; times *= 2) {
        const start = performance.now();
        busy("cpu", 40 * times);
        const copy = large.to("cuda");
        x.set([1, 2, 3, 4]);
        const called = performance.now() - start;
        const values = (await x.data()).join();
        held = called * 2 >= performance.now() - start;
        copy.dispose();
        if (!held) console.log(values);
      }
      console.log(held);
      `,
    );
    expect(output).toBe("1,2,3,4\nfalse");
  });

  test.for(["0", "1"])("pass on failures, however late; peers: %s", async (peers, context) => {
    needsSimulator(context);
    const output = await expectChild(
      `${prelude}
      for (const [from, to] of [["cpu", "cuda:0"], ["cuda:0", "cuda:1"], ["cuda:1", "cpu"]]) {
        const table = heed.ones([5, 4], { device: from });
        const whole = heed.ones([4], { device: from });
        const ids = heed.tensor(Int32Array.of(7), [1], { device: from });
        busy(from, 20);
        const damaged = heed.add(heed.embedding(ids, table).to(to), 1);
        const fine = whole.to(to);
        console.log(await failure(damaged.data()), (await fine.data()).join());
      }
      `,
      0,
      { ...slow, HEED_SIMULATOR_DEVICES: "2", HEED_SIMULATOR_PEERS: peers },
    );
    const line = "ERR_RANGE embedding_forward: expected ids in [0, 5), got 7 at position 0 1,1,1,1";
    expect(output.split("\n")).toEqual([line, line, line]);
  });

  test.for(["0", "1"])("of more bytes than may be in transit at once; peers: %s", async (peers, context) => {
    needsSimulator(context);
    const output = await expectChild(
      `${prelude}
      const names = ["cpu", "cuda:0", "cuda:1"];
      const tensors = names.map((device, i) => heed.full([9 * 2 ** 20], i, { device }));
      for (const { device } of tensors) await device.synchronize();
      for (const name of names) busy(name);
      // Each device sends 36 MiB twice to each other device: 144 MiB.
      const sent = [];
      for (let i = 0; i < 2; i++)
        for (const [from, tensor] of tensors.entries())
          for (const to of names) if (names[from] !== to) sent.push([from, tensor.to(to)]);
      let wrong = 0;
      for (const [value, tensor] of sent) {
        const last = heed.narrow(tensor, 0, tensor.size - 1, 1);
        wrong += Number((await last.item()) !== value);
        tensor.dispose();
      }
      console.log(wrong);
      `,
      0,
      { ...slow, HEED_SIMULATOR_DEVICES: "2", HEED_SIMULATOR_PEERS: peers },
    );
    expect(output).toBe("0");
  });
});

describeUnless(noCuda)("cuda: a driver whose queue is full", () => {
  test("does not hold the thread that calls", async (context) => {
    needsSimulator(context);
    const output = await expectChild(
      `
      const x = heed.ones([16], { device: "cuda" });
      const steps = 1600;
      let y = heed.zeros([16], { device: "cuda" });
      const start = performance.now();
      for (let i = 0; i < steps; i++) {
        const next = heed.add(x, y);
        y.dispose();
        y = next;
      }
      const called = performance.now() - start;
      const sum = await y.data();
      const waited = performance.now() - start;
      console.log(sum.every((value) => value === steps), called * 2 < waited || [called, waited]);
      `,
      0,
      { HEED_SIMULATOR_QUEUE: "640", HEED_SIMULATOR_LAUNCH_TIME: "500" },
    );
    expect(output).toBe("true true");
  });
});

describeUnless(noCuda)("cuda: memory that is given back while a call waits", () => {
  // 20 MiB of 64 are used, 22 in the cache, 22 free: 30 fit once the cache is given back.
  const program = (used: boolean) => `
    const device = heed.device("cuda:0");
    const empty = (mib) => heed.empty([mib * 2 ** 18], { device });
    const others = empty(20);
    const x = empty(22);
    await device.synchronize();
    const start = performance.now();
    // Long beside the calls, also on a machine that does other things at the same time.
    busy("cpu", 200);
    const source = heed.full([4], 5, { device: "cpu" });
    if (!${String(used)}) x.dispose();
    const arrived = source.to(device);
    if (${String(used)}) x.dispose();
    const large = empty(30);
    const called = performance.now() - start;
    heed.narrow(large, 0, 0, 4).set([1, 2, 3, 4]);
    const read = heed.add(heed.narrow(large, 0, 0, 4), arrived);
    console.log((await read.data()).join());
    const waited = performance.now() - start;
    console.log(called * 2 < waited || [called, waited]);
  `;
  const env = { HEED_SIMULATOR_MEMORY: String(64 * MiB) };

  test("serves at once where nothing that waits uses it", async (context) => {
    needsSimulator(context);
    expect(await expectChild(prelude + program(false), 0, env)).toBe("6,7,8,9\ntrue");
  });

  test.for(["1", "0"])(
    "serves when what waits and uses it has gone to the device; pools: %s",
    async (pools, context) => {
      needsSimulator(context);
      const output = await expectChild(prelude + program(true), 0, { ...env, HEED_SIMULATOR_POOLS: pools });
      expect(output.split("\n")[0]).toBe("6,7,8,9");
    },
  );
});

describeUnless(noCuda)("cuda: a lost device whose context reports it", () => {
  const said = /^heed simulator: device 0: the device is lost[^\n]*\n$/;
  // The delay lets the calls return before the device reaches the launch that fails.
  const env = { HEED_SIMULATOR_LOST_AFTER: "3", HEED_SIMULATOR_LOST_CONTEXT: "1", HEED_SIMULATOR_DELAY: "300000" };
  const lose = `
    const x = heed.ones([4], { device: "cuda" });
    const copy = heed.ones([4], { device: "cpu" }).to("cuda");
    for (let i = 0; i < 5; i++) heed.add(x, 1);
    console.log((await failure(x.data())).split(" ")[0], (await failure(copy.data())).split(" ")[0]);
    await heed.device("cuda").emptyCache();
    const onCpu = await heed.sum(heed.ones([3], { device: "cpu" })).item();
    if (onCpu !== 3) throw new Error("expected 3, got " + onCpu);
  `;
  const endings = {
    "ends by itself": "process.exitCode = 7;",
    "calls exit": "heed.ones([4], { device: 'cpu' }).data(); process.exit(7);",
    "ends a worker first": `
      const w = worker(${JSON.stringify(prelude + "await failure(Promise.resolve().then(() => heed.ones([4], { device: 'cuda' }).data())); process.exit(5);")});
      const [code] = await once(w, "exit");
      process.exitCode = code + 2;`,
  };
  test.for(Object.entries(endings))("a process that %s ends with its own exit code", async ([, ending], context) => {
    needsSimulator(context);
    const { code, signal, output, errors } = await runChild(prelude + lose + ending, 50, env);
    expect({ code, signal, output, errors }).toEqual({
      code: 7,
      signal: null,
      output: "ERR_CUDA ERR_CUDA\n",
      errors: expect.stringMatching(said) as string,
    });
  });
});

describeUnless(noCuda)("cuda: little pinned memory", () => {
  // Less than a block of the largest size, hardly any memory, and none.
  test.for([9 * MiB, 64 * 1024])("%i bytes: more is copied to, between and from devices", async (pinned, context) => {
    needsSimulator(context);
    const output = await expectChild(
      `
      const size = 6 * 2 ** 20 + 3;
      const values = new Float32Array(size);
      for (let i = 0; i < size; i++) values[i] = i % 8191;
      const wrong = (data) => {
        let count = 0;
        for (let i = 0; i < size; i++) count += Number(data[i] !== i % 8191);
        return count;
      };
      const x = heed.tensor(values, [size], { device: "cuda" });
      const reads = [x.data(), x.to("cpu").data(), x.to("cpu").to("cuda").data()];
      values.fill(0);
      x.set(values);
      const last = heed.narrow(x, 0, size - 1, 1).item();
      for (const read of reads) console.log(wrong(await read));
      console.log(await last);
      `,
      0,
      { HEED_SIMULATOR_PINNED: String(pinned) },
    );
    expect(output.split("\n")).toEqual(["0", "0", "0", "0"]);
  });

  test("none at all: a read reports that, and the CPU still works", async (context) => {
    needsSimulator(context);
    const output = await expectChild(
      `${prelude}
      const x = heed.ones([1000], { device: "cuda" });
      console.log(await failure(x.data()));
      console.log(await heed.sum(heed.ones([3], { device: "cpu" })).item());
      `,
      0,
      { HEED_SIMULATOR_PINNED: "1000" },
    );
    expect(output).toBe("ERR_OOM read: allocating pinned host memory: out of memory (CUDA_ERROR_OUT_OF_MEMORY, 2)\n3");
  });
});

describeUnless(noCuda)("cuda: a driver that lacks a function which only one feature needs", () => {
  test("is reported, and everything else works", async (context) => {
    needsSimulator(context);
    const output = await expectChild(
      `${prelude}
      const { Graph } = await import(${JSON.stringify(pathToFileURL(dist("core/graph.js")).href)});
      const [, cuda] = heed.devices();
      console.log(cuda.available, cuda.description.split("; ")[1]);
      const device = heed.device("cuda");
      console.log(await failure(new Promise(() => Graph.capture(device, () => undefined))));
      const model = new heed.GPT({ vocabularySize: 11, contextLength: 8, layers: 1, heads: 1, width: 8 }, { seed: 1, device });
      const generate = () => heed.generateTokens(model, [[1], [2, 3]], { temperature: 0, maxTokens: 6 });
      const there = await generate();
      model.to("cpu");
      const here = await generate();
      console.log(JSON.stringify(there) === JSON.stringify(here), await heed.sum(heed.ones([3], { device })).item());
      `,
      0,
      { HEED_CUDA_DRIVER: besideSimulator("libheed_cuda_simulator_old.so") },
    );
    expect(output.split("\n")).toEqual([
      "true decoding steps are not recorded, since the driver lacks cuGraphInstantiateWithFlags",
      "ERR_CUDA capture: the CUDA driver lacks cuGraphInstantiateWithFlags, needed to record graphs: " +
        "expected a driver of CUDA 11.4 (version 470) or later",
      "true 3",
    ]);
  });
});
