/**
 * What each function does once its card is lost: it still serves, if it needs nothing of the card, or it ends in the error
 * that says so. None hangs, ends the process or gives values.
 */
import { pathToFileURL } from "node:url";
import { expect, test } from "vitest";
import { native } from "../../lib/core/native.js";
import { runChild } from "../support/child.js";
import { needsSimulator, noCuda } from "../support/cuda.js";
import { dist } from "../support/dist.js";
import { describeUnless } from "../support/skip.js";

const said = /^heed simulator: device 0: the device is lost[^\n]*\n$/;

type Outcome = "serves" | "lost";
/** A call, as JavaScript, and how it ends. What a call enqueues fails at the call or at the read after it. */
type Cases = Readonly<Record<string, readonly [body: string, outcome: Outcome]>>;

/** The functions of the addon that have to do with a device. */
const functions: Cases = {
  alloc: ["const made = native.alloc(1, f32, [2 ** 20]); await native.read(made)", "lost"],
  view: ["native.release(native.view(x.handle, [2], [1], 0))", "serves"],
  release: ["native.release(spare.handle)", "serves"],
  upload: ["native.upload(x.handle, new Float32Array(4)); await native.read(x.handle)", "lost"],
  read: ["await native.read(x.handle)", "lost"],
  readNow: ["native.readNow(x.handle)", "lost"],
  computed: ["await native.computed(x.handle)", "lost"],
  toNative: ["native.toNative(x.handle)", "serves"],
  fromNative: ["native.release(native.fromNative(native.toNative(x.handle)).handle)", "serves"],
  toDLPack: ["native.toDLPack(x.handle, true)", "serves"],
  fromDLPack: ["native.release(native.fromDLPack(native.toDLPack(x.handle, true)).handle)", "serves"],
  transfer: ["native.transfer(onCpu.handle, x.handle); await native.read(onCpu.handle)", "lost"],
  "transfer, to it": ["native.transfer(x.handle, onCpu.handle); await native.read(x.handle)", "lost"],
  "transfer, from another card": ["native.transfer(beyond.handle, x.handle); await native.read(beyond.handle)", "lost"],
  "transfer, to another card": ["native.transfer(x.handle, beyond.handle); await native.read(x.handle)", "lost"],
  beginCapture: ["native.beginCapture(1)", "lost"],
  launchGraph: ["native.launchGraph(graph); await native.synchronize(1)", "lost"],
  releaseGraph: ["native.releaseGraph(graph)", "serves"],
  startTimer: ["native.startTimer(1)", "lost"],
  stopTimer: ["await native.stopTimer(1, timer)", "lost"],
  synchronize: ["await native.synchronize(1)", "lost"],
  memory: ["if (!(native.memory(1).live > 0)) throw new Error('no memory')", "serves"],
  availableMemory: ["native.availableMemory(1)", "serves"],
  resetPeak: ["native.resetPeak(1)", "serves"],
  releaseCached: ["await native.releaseCached(1)", "serves"],
  kernelImages: ["if (!native.kernelImages(1).some(({ loaded }) => loaded)) throw new Error('none')", "serves"],
  packedImage: ["native.packedImage(native.kernelImages(1)[0].name)", "serves"],
  loadImage: ["await native.loadImage(1, image.name, unpacked)", "lost"],
  cuda: ["if (native.cuda().devices.length !== 2) throw new Error('not there')", "serves"],
};

/** Functions that users call, with the same outcomes. */
const uses: Cases = {
  "an operation": ["await heed.add(x, 1).data()", "lost"],
  "a product": ["await heed.matmul(heed.reshape(x, [2, 2]), heed.reshape(x, [2, 2])).data()", "lost"],
  "values that are set": ["x.set([1, 2, 3, 4]); await x.data()", "lost"],
  "more values than are pinned at once": [
    "await heed.tensor(new Float32Array(2 ** 23), [2 ** 23], { device }).data()",
    "lost",
  ],
  "another dtype": ["await heed.cast(x, 'bf16').data()", "lost"],
  "time on the device": ["await device.elapsed(() => {})", "lost"],
  "a forward pass": ["await model.forward(ids).data()", "lost"],
  "a loss and its gradients": ["model.loss(ids, ids).backward(); await device.synchronize()", "lost"],
  "a step of the optimizer": ["optimizer.step(); await device.synchronize()", "lost"],
  "gradients that are dropped": ["optimizer.zeroGrad()", "serves"],
  generation: ["await heed.generateTokens(model, [[1]], { maxTokens: 4 })", "lost"],
  "an engine": ["await new heed.Engine(model, { pageSize: 4 }).generate({ tokens: [1], maxTokens: 6 })", "lost"],
  training: ["await new heed.Trainer({ model, data, batchSize: 2, steps: 3 }).train()", "lost"],
  "a model that is saved": ["await heed.savePretrained(folder, model)", "lost"],
  "a new model": ["await new heed.GPT(config, { device }).forward(ids).data()", "lost"],
  "a model that moves": ["model.to('cpu'); await model.forward(ids.to('cpu')).data()", "lost"],
  "warming up": ["await device.warmUp(other, { dtypes: ['bf16'] })", "lost"],
  "a worker that opens it": [
    `const w = worker(\`
      const ended = await (async () => heed.ones([4], { device: "cuda" }).data())().then(() => "read", (error) => error);
      parentPort.postMessage(ended.code + " " + ended.message);
    \`);
    const [message] = await once(w, "message");
    throw new heed.HeedError(message.split(" ")[0], message)`,
    "lost",
  ],
  "its name and properties": ["if (heed.device('cuda').name !== 'cuda:0') throw new Error('no name')", "serves"],
  "the list of devices": ["if (heed.devices().length !== 3) throw new Error('too few')", "serves"],
  "an empty cache": ["await device.emptyCache()", "serves"],
  "the CPU": [
    "if ((await heed.sum(heed.ones([3], { device: 'cpu' })).item()) !== 3) throw new Error('wrong')",
    "serves",
  ],
  "another card": [
    "if ((await heed.sum(heed.ones([3], { device: 'cuda:1' })).item()) !== 3) throw new Error('wrong')",
    "serves",
  ],
  "a tensor and a model that are disposed": ["x.dispose(); other.dispose(); optimizer.dispose()", "serves"],
};

const program = (cases: Cases): string => `
  import { mkdtempSync } from "node:fs";
  import { tmpdir } from "node:os";
  import { setTimeout as sleep } from "node:timers/promises";
  import { brotliDecompressSync } from "node:zlib";
  const { native } = await import(${JSON.stringify(pathToFileURL(dist("core/native.js")).href)});
  const { Graph } = await import(${JSON.stringify(pathToFileURL(dist("core/graph.js")).href)});
  const device = heed.device("cuda");
  const config = { vocabularySize: 11, contextLength: 8, layers: 1, heads: 1, width: 8 };
  const [model, other] = [1, 2].map((seed) => new heed.GPT(config, { device, seed }));
  const optimizer = new heed.AdamW(model.namedParameters());
  const data = heed.tokenData(Uint8Array.from({ length: 500 }, (_, i) => i % 11));
  const folder = mkdtempSync(tmpdir() + "/heed-");
  const [x, spare] = [1, 2].map((value) => heed.full([4], value, { device }));
  const f32 = 0;
  const onCpu = heed.ones([4], { device: "cpu" });
  const beyond = x.to("cuda:1");
  const ids = heed.tensor(Int32Array.from({ length: 16 }, (_, i) => i % 11), [2, 8], { device });
  model.loss(ids, ids).backward();
  native.beginCapture(1);
  heed.add(x, 1).dispose();
  const graph = native.endCapture(1);
  const timer = native.startTimer(1);
  const image = native.kernelImages(1).find(({ loaded }) => !loaded);
  const unpacked = brotliDecompressSync(Buffer.from(native.packedImage(image.name)));
  await beyond.data();
  // The device comes to the launch that fails while a graph is captured.
  for (let i = 0; i < ${launches}; i++) heed.add(x, 1).dispose();
  const reached = native.synchronize(1).catch(() => undefined);
  native.beginCapture(1);
  heed.add(x, 1).dispose();
  await reached;
  const outcomes = {};
  const ending = async (body) => {
    try {
      await body();
      return "serves";
    } catch (error) {
      const { code, message } = error;
      const lost = /the device is lost to this process, which must be started again$/.test(message);
      return error instanceof heed.HeedError && code === "ERR_CUDA" && lost ? "lost" : String(error.stack ?? error);
    }
  };
  const cases = { ${Object.entries(cases)
    .map(([name, [body]]) => `${JSON.stringify(name)}: async () => { ${body}; }`)
    .join(",\n")} };
  outcomes.endCapture = await ending(() => native.endCapture(1));
  for (const [name, body] of Object.entries(cases))
    outcomes[name] = await Promise.race([ending(body), sleep(10_000, "hangs", { ref: false })]);
  console.log(JSON.stringify(outcomes));
`;

/** Launches after which the device is lost: more than the program needs before. */
const launches = 600;

describeUnless(noCuda)("cuda: each function on a lost device", () => {
  test("the table has every function of the addon that has to do with one", () => {
    const others = [
      "ops",
      "isa",
      "selectIsa",
      "supportsIsa",
      "threads",
      "cores",
      "setThreads",
      "tf32",
      "setTf32",
      "setBackground",
      "interface",
      "share",
      "launchEnvironment",
    ];
    const known = [...Object.keys(functions), "endCapture", ...others, "setErrorClass", "setUnpack"];
    // Collective operations take tensors of the CPU only.
    const unknown = Object.keys(native).filter((name) => !known.includes(name) && !/^collectives?[A-Z]/.test(name));
    expect(unknown).toEqual([]);
  });

  test.for(["0", "1"])("it serves or says so, where contexts tell of it: %s", async (told, context) => {
    needsSimulator(context);
    const cases = { ...functions, ...uses };
    const { output, errors, ...ended } = await runChild(program(cases), 50, {
      HEED_SIMULATOR_DEVICES: "2",
      HEED_SIMULATOR_DELAY: "200000",
      HEED_SIMULATOR_LOST_AFTER: String(launches),
      HEED_SIMULATOR_LOST_CONTEXT: told,
    });
    expect({ ...ended, errors }).toMatchObject({
      code: 0,
      signal: null,
      errors: expect.stringMatching(said) as string,
    });
    const wanted = Object.fromEntries(Object.entries(cases).map(([name, [, outcome]]) => [name, outcome]));
    // The capture that the loss came into ends first, and with an error.
    expect(JSON.parse(output)).toEqual({ endCapture: "lost", ...wanted });
  });
});
