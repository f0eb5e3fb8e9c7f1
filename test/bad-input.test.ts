import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { device, setThreads, threads } from "../lib/core/device.js";
import { HeedError } from "../lib/util/errors.js";
import * as heed from "../lib/index.js";
import { Tensor } from "../lib/core/tensor.js";
import { type Call, callsOn } from "./support/calls.js";
import { expectError, expectRejection } from "./support/errors.js";
import { onEachDevice } from "./support/targets.js";

const usual = threads();
afterEach(() => setThreads(usual));

const gone = (): heed.FloatTensor => {
  const x = heed.zeros([2, 3]);
  x.dispose();
  return x;
};

/** Returns the places of tensors among the arguments, as paths of keys. */
function tensorPaths(value: unknown, path: string[] = []): string[][] {
  if (value instanceof Tensor) return [path];
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, item]) => tensorPaths(item, [...path, key]));
}

function at(value: unknown, path: string[]): unknown {
  return path.reduce((part, key) => (part as Record<string, unknown>)[key], value);
}

function replace(args: unknown[], path: string[], value: unknown): unknown[] {
  (at(args, path.slice(0, -1)) as Record<string, unknown>)[path.at(-1)!] = value;
  return args;
}

const run = ({ run }: Call, args: unknown[]): unknown => run(...(args as never[]));

onEachDevice((name) => {
  const calls = callsOn(name);
  const takingTensors = calls.filter((call) => tensorPaths(call.args()).length > 0);

  describe.for(takingTensors)("each tensor that $name takes", (call) => {
    const paths = tensorPaths(call.args());
    // Functions that compute nothing take tensors of any kind, and `keep` takes anything that can be disposed.
    const anyDType = [
      "contiguous",
      "detach",
      "keep",
      "reshape",
      "transpose",
      "narrow",
      "cast",
      "Tensor.set",
      "Tensor.backward",
    ];

    test("may be valid", () => {
      expect(() => run(call, call.args())).not.toThrow();
    });

    test.for(paths)("may not be disposed: %s", (path) => {
      if (call.name === "keep") return;
      const args = replace(call.args(), path, gone());
      expectError(() => run(call, args), "ERR_DISPOSED");
    });

    test.for(paths)("may not be anything else: %s", (path) => {
      if (call.name === "keep" || call.name.startsWith("Tensor.")) return;
      for (const junk of ["x", {}, [1], Symbol("s"), () => 1, 5n]) {
        const args = replace(call.args(), path, junk);
        expectError(() => run(call, args), "ERR_ARGUMENT");
      }
    });

    test.for(paths)("may not be of another kind of dtype: %s", (path) => {
      const isCondition = call.name === "where" && path[0] === "0"; // which may have any dtype, too
      if (anyDType.includes(call.name) || isCondition) return;
      const args = call.args();
      const { shape, dtype } = at(args, path) as Tensor;
      replace(args, path, heed.ones(shape, { dtype: dtype === "i32" ? "f32" : "i32" }));
      expectError(() => run(call, args), "ERR_DTYPE");
    });
  });

  const f = (...shape: number[]): heed.FloatTensor => heed.ones(shape);
  const i = (...values: number[]): heed.IntTensor => heed.tensor(Int32Array.from(values));
  const turns = (positions: number, pairs: number): heed.FloatTensor => f(positions, pairs, 2);
  /** Lets a value through that only JavaScript callers may pass: `never` fits every type. */
  const any = (value: unknown): never => value as never;

  const shapes: [string, () => unknown][] = [
    ["add", () => heed.add(f(2, 3), f(2))],
    ["matmul inner", () => heed.matmul(f(2, 3), f(2, 3))],
    ["matmul rank", () => heed.matmul(f(3), f(3, 2))],
    ["matmul batch", () => heed.matmul(f(2, 3, 4), f(3, 4, 5))],
    ["linear weight", () => heed.linear(f(2, 3), f(3, 4))],
    ["linear weight io", () => heed.linear(f(2, 3), f(4, 3), { layout: "io" })],
    ["linear bias", () => heed.linear(f(2, 3), f(4, 3), { bias: f(3) })],
    ["linear residual", () => heed.linear(f(2, 3), f(4, 3), { residual: f(2, 3) })],
    ["linear scalar", () => heed.linear(f(), f(4, 3))],
    ["layerNorm weight", () => heed.layerNorm(f(2, 3), { weight: f(2) })],
    ["layerNorm bias", () => heed.layerNorm(f(2, 3), { bias: f(1, 3) })],
    ["layerNorm scalar", () => heed.layerNorm(f())],
    ["addLayerNorm residual", () => heed.addLayerNorm(f(2, 3), f(3, 2))],
    ["rmsNorm weight", () => heed.rmsNorm(f(2, 3), { weight: f(2) })],
    ["rmsNorm scalar", () => heed.rmsNorm(f())],
    ["addRmsNorm residual", () => heed.addRmsNorm(f(2, 3), f(3, 2))],
    ["softmax scalar", () => heed.softmax(f())],
    ["mean of nothing", () => heed.mean(f(0))],
    ["max of nothing", () => heed.max(f(2, 0), { axes: [1] })],
    ["attention rank", () => heed.attention(f(2, 3, 4), f(2, 3, 4), f(2, 3, 4))],
    ["attention batch", () => heed.attention(f(2, 3, 1, 4), f(1, 3, 1, 4), f(1, 3, 1, 4))],
    ["attention heads", () => heed.attention(f(1, 3, 3, 4), f(1, 3, 2, 4), f(1, 3, 2, 4))],
    ["attention size", () => heed.attention(f(1, 3, 1, 4), f(1, 3, 1, 5), f(1, 3, 1, 5))],
    ["attention values", () => heed.attention(f(1, 3, 1, 4), f(1, 3, 1, 4), f(1, 2, 1, 4))],
    ["attention lengths", () => heed.attention(f(2, 3, 1, 4), f(2, 3, 1, 4), f(2, 3, 1, 4), { keyLengths: i(1) })],
    ["attention ranges", () => heed.attention(f(1, 3, 1, 4), f(1, 3, 1, 4), f(1, 3, 1, 4), { keyRanges: i(0, 1) })],
    ["attention slopes", () => heed.attention(f(1, 3, 2, 4), f(1, 3, 2, 4), f(1, 3, 2, 4), { slopes: f(1) })],
    ["attention biases", () => heed.attention(f(1, 3, 2, 4), f(1, 3, 2, 4), f(1, 3, 2, 4), { relative: f(1, 3) })],
    ["even biases", () => heed.attention(f(1, 3, 2, 4), f(1, 3, 2, 4), f(1, 3, 2, 4), { relative: f(2, 4) })],
    ["packedAttention width", () => heed.packedAttention(f(1, 2, 7), { heads: 2 })],
    ["packedAttention heads", () => heed.packedAttention(f(1, 2, 14), { heads: 3, kvHeads: 2 })],
    ["rotary rank", () => heed.rotary(f(2, 3, 4), turns(3, 2))],
    ["rotary table", () => heed.rotary(f(1, 3, 1, 4), f(3, 4))],
    ["rotary table too wide", () => heed.rotary(f(1, 3, 1, 4), turns(3, 3))],
    ["rotary starts", () => heed.rotary(f(2, 3, 1, 4), turns(3, 2), { starts: i(0) })],
    ["rotary positions", () => heed.rotary(f(2, 3, 1, 4), turns(3, 2), { positions: i(0, 1, 2) })],
    ["gated up", () => heed.gated(f(2, 3), f(3, 2))],
    ["packedGated width", () => heed.packedGated(f(2, 3))],
    ["packedGated scalar", () => heed.packedGated(f())],
    ["embedding weight", () => heed.embedding(i(0), f(3))],
    ["crossEntropy targets", () => heed.crossEntropy(f(2, 3), i(0, 1, 2))],
    ["linearCrossEntropy targets", () => heed.linearCrossEntropy(f(2, 3), f(5, 3), i(0, 1, 2))],
    ["linearCrossEntropy weight", () => heed.linearCrossEntropy(f(2, 3), f(3, 5), i(0, 1))],
    ["linearCrossEntropy bias", () => heed.linearCrossEntropy(f(2, 3), f(5, 3), i(0, 1), { bias: f(3) })],
    ["reshape", () => heed.reshape(f(2, 3), [4])],
    ["reshape -1", () => heed.reshape(f(2, 3), [4, -1])],
    ["reshape two -1", () => heed.reshape(f(2, 3), [-1, -1])],
    ["transpose rank", () => heed.transpose(f(3))],
    ["argmax scalar", () => heed.argmax(f())],
    ["argmax of nothing", () => heed.argmax(f(2, 0))],
    ["sample rank", () => heed.sample(f(3), i(0), { seed: 1 })],
    ["sample options", () => heed.sample(f(2, 3), i(0, 1), [{ seed: 1 }])],
    ["sample bias", () => heed.sample(f(2, 3), i(0, 1), { seed: 1 }, { bias: f(2, 2) })],
    ["sample allowed", () => heed.sample(f(2, 3), i(0, 1), { seed: 1 }, { allowed: i(0, 1) })],
    ["logProbabilities rows", () => heed.logProbabilities(f(2, 3), heed.reshape(i(0, 1, 2), [3, 1]))],
    ["sample offsets", () => heed.sample(f(2, 3), i(0), { seed: 1 })],
    ["cacheWrite values", () => heed.cacheWrite(f(2, 4, 1, 3), f(2, 2, 2, 3))],
    ["cacheWrite too long", () => heed.cacheWrite(f(2, 4, 1, 3), f(2, 5, 1, 3))],
    ["zeros rank", () => heed.zeros([1, 1, 1, 1, 1, 1, 1, 1, 1])],
    ["zeros negative", () => heed.zeros([-1])],
    ["zeros fraction", () => heed.zeros([1.5])],
    ["tensor count", () => heed.tensor([1, 2, 3], [2])],
    ["tensor ragged", () => heed.tensor([[1, 2], [3]])],
    ["GPT too long", () => new heed.GPT(gpt).forward(heed.zeros([1, 5], { dtype: "i32" }))],
    ["GPT rank", () => new heed.GPT(gpt).forward(i(1, 2))],
    ["GPT heads", () => new heed.GPT({ ...gpt, heads: 3 })],
  ];
  const gpt = { vocabularySize: 5, contextLength: 4, layers: 1, heads: 2, width: 4 };

  test.for(shapes)("a wrong shape throws ERR_SHAPE: %s", ([, body]) => expectError(body, "ERR_SHAPE"));

  const numbers = [NaN, -1, Infinity, any("1"), any(null), any({})];
  const ranges: [string, (value: number) => unknown][] = [
    ["dropout p", (p) => heed.dropout(f(2), p, 1)],
    ["dropout seed", (seed) => heed.dropout(f(2), 0.5, seed)],
    ["layerNorm eps", (eps) => heed.layerNorm(f(2, 3), { eps })],
    ["rmsNorm eps", (eps) => heed.rmsNorm(f(2, 3), { eps })],
    ["rotaryTable size", (size) => heed.rotaryTable({ size, length: 1 })],
    ["rotaryTable length", (length) => heed.rotaryTable({ size: 2, length })],
    ["rotaryTable base", (base) => heed.rotaryTable({ size: 2, length: 1, base })],
    ...(["linear", "ntk", "dynamic", "yarn", "llama3"] as const).map((type): (typeof ranges)[number] => [
      `rotaryTable factor of ${type}`,
      (factor) => heed.rotaryTable({ size: 2, length: 1, scaling: { type, factor, originalLength: 1 } }),
    ]),
    ...(["dynamic", "yarn", "llama3"] as const).map((type): (typeof ranges)[number] => [
      `rotaryTable originalLength of ${type}`,
      (originalLength) => heed.rotaryTable({ size: 2, length: 1, scaling: { type, factor: 2, originalLength } }),
    ]),
    ...(["betaFast", "betaSlow", "attentionFactor"] as const).map((name): (typeof ranges)[number] => [
      `rotaryTable ${name}`,
      (value) =>
        heed.rotaryTable({
          size: 2,
          length: 1,
          scaling: { type: "yarn", factor: 2, originalLength: 8, [name]: value },
        }),
    ]),
    ...(["lowFrequencyFactor", "highFrequencyFactor"] as const).map((name): (typeof ranges)[number] => [
      `rotaryTable ${name}`,
      (value) =>
        heed.rotaryTable({
          size: 2,
          length: 1,
          scaling: { type: "llama3", factor: 2, originalLength: 8, [name]: value },
        }),
    ]),
    ["attention dropout", (dropout) => heed.attention(f(1, 1, 1, 1), f(1, 1, 1, 1), f(1, 1, 1, 1), { dropout })],
    ["attention seed", (seed) => heed.attention(f(1, 1, 1, 1), f(1, 1, 1, 1), f(1, 1, 1, 1), { seed })],
    ["attention window", (window) => heed.attention(f(1, 1, 1, 1), f(1, 1, 1, 1), f(1, 1, 1, 1), { window })],
    ["attention softcap", (softcap) => heed.attention(f(1, 1, 1, 1), f(1, 1, 1, 1), f(1, 1, 1, 1), { softcap })],
    ["packedAttention heads", (heads) => heed.packedAttention(f(1, 1, 3), { heads })],
    ["packedAttention kvHeads", (kvHeads) => heed.packedAttention(f(1, 1, 3), { heads: 1, kvHeads })],
    ["crossEntropy labelSmoothing", (labelSmoothing) => heed.crossEntropy(f(1, 2), i(0), { labelSmoothing })],
    ["narrow start", (start) => heed.narrow(f(2), 0, start, 1)],
    ["narrow length", (length) => heed.narrow(f(2), 0, 0, length)],
    ["topk k", (k) => heed.topk(f(2), k)],
    ["sample typicalP", (typicalP) => heed.sample(f(1, 2), i(0), { seed: 1, typicalP })],
    ["sample seed", (seed) => heed.sample(f(1, 2), i(0), { seed })],
    ["sample temperature", (temperature) => heed.sample(f(1, 2), i(0), { seed: 1, temperature })],
    ["sample topK", (topK) => heed.sample(f(1, 2), i(0), { seed: 1, topK })],
    ["sample topP", (topP) => heed.sample(f(1, 2), i(0), { seed: 1, topP })],
    ["sample minP", (minP) => heed.sample(f(1, 2), i(0), { seed: 1, minP })],
    ["sample repetitionPenalty", (p) => heed.sample(f(1, 2), i(0), { seed: 1, repetitionPenalty: p })],
    ["randn seed", (seed) => heed.randn([2], { seed })],
    ["randn std", (std) => heed.randn([2], { seed: 1, std })],
    ["uniform seed", (seed) => heed.uniform([2], { seed })],
    ["AdamW lr", (lr) => new heed.AdamW([["x", f(2)]], { lr })],
    ["AdamW beta1", (beta1) => new heed.AdamW([["x", f(2)]], { beta1 })],
    ["AdamW eps", (eps) => new heed.AdamW([["x", f(2)]], { eps })],
    ["AdamW weightDecay", (weightDecay) => new heed.AdamW([["x", f(2)]], { weightDecay })],
    ["AdamW maxNorm", (maxNorm) => new heed.AdamW([["x", f(2)]], { maxNorm })],
    ["GPT layers", (layers) => new heed.GPT({ ...gpt, layers })],
    ["GPT dropout", (dropout) => new heed.GPT({ ...gpt, dropout })],
    ["GPT seed", (seed) => new heed.GPT(gpt, { seed })],
    ["cosineSchedule lr", (lr) => heed.cosineSchedule({ lr, steps: 1 })],
    ["cosineSchedule steps", (steps) => heed.cosineSchedule({ lr: 1, steps })],
    ["setThreads", (count) => setThreads(count)],
  ];

  test.for(ranges)("a number out of range, or none, throws ERR_RANGE: %s", ([name, body]) => {
    for (const value of numbers) {
      // For these arguments infinity is a number like any other.
      if (value === Infinity && ["layerNorm eps", "rmsNorm eps", "AdamW maxNorm"].includes(name)) continue;
      // Null means that nothing was given here.
      if (value === null && name === "GPT seed") continue;
      expectError(() => body(value), "ERR_RANGE");
    }
  });

  test.for<[string, () => unknown]>([
    ["sum axis", () => heed.sum(f(2), { axes: [1] })],
    ["sum axis", () => heed.sum(f(2), { axes: [-2] })],
    ["sum axis", () => heed.sum(f(2), { axes: [0.5] })],
    ["transpose axis", () => heed.transpose(f(2, 2), [0, 2])],
    ["rotaryTable odd size", () => heed.rotaryTable({ size: 3, length: 1 })],
    ["rotaryTable too large", () => heed.rotaryTable({ size: 2 ** 20, length: 2 ** 20 })],
    ["rotary past the table", () => heed.rotary(f(1, 3, 1, 4), turns(2, 2))],
    ["narrow axis", () => heed.narrow(f(2), 1, 0, 1)],
    ["narrow past the end", () => heed.narrow(f(2), 0, 1, 2)],
    ["topk", () => heed.topk(f(2), 3)],
    ["crossEntropy ignoreIndex", () => heed.crossEntropy(f(1, 2), i(0), { ignoreIndex: 2 ** 31 })],
    ["linearCrossEntropy chunkRows", () => heed.linearCrossEntropy(f(1, 2), f(3, 2), i(0), { chunkRows: 0 })],
    ["attention scale", () => heed.attention(f(1, 1, 1, 1), f(1, 1, 1, 1), f(1, 1, 1, 1), { scale: NaN })],
    ["GPT.createCache", () => new heed.GPT(gpt).createCache(1, 5)],
  ])("%s out of range throws ERR_RANGE", ([, body]) => expectError(body, "ERR_RANGE"));

  test.for<[string, () => unknown]>([
    ["linear layout", () => heed.linear(f(2, 3), f(4, 3), { layout: any("xx") })],
    ["linear activation", () => heed.linear(f(2, 3), f(4, 3), { activation: any("selu") })],
    ["activate", () => heed.activate(f(2), any("selu"))],
    ["gelu approximation", () => heed.gelu(f(2), any("quick"))],
    ["gated activation", () => heed.gated(f(2), f(2), any("selu"))],
    ["packedGated activation", () => heed.packedGated(f(2), any("selu"))],
    [
      "rotary starts and positions",
      () => heed.rotary(f(1, 1, 1, 2), turns(1, 1), { starts: i(0), positions: heed.zeros([1, 1], { dtype: "i32" }) }),
    ],
    [
      "rotaryTable scaling",
      () => heed.rotaryTable({ size: 2, length: 1, scaling: any({ type: "longrope", factor: 2 }) }),
    ],
    ["transpose order", () => heed.transpose(f(2, 2), [0, 0])],
    ["tensor of strings", () => heed.tensor(any(["a"]))],
    ["tensor of nothing", () => heed.tensor(any(undefined))],
    ["tensor of an object", () => heed.tensor(any({}))],
    ["tensor of big integers", () => heed.tensor(any(BigInt64Array.of(1n)))],
    ["full of a string", () => heed.full([1], any("a"))],
    ["set of nothing", () => f(2).set(any(null))],
    ["scope of no function", () => heed.scope(any(5))],
    ["noGrad of no function", () => heed.noGrad(any(null))],
    ["GPT of no configuration", () => new heed.GPT(any(null))],
    ["AdamW of no parameters", () => new heed.AdamW(any(null))],
    ["AdamW of an empty list", () => new heed.AdamW([])],
  ])("an argument of another form throws ERR_ARGUMENT: %s", ([, body]) => expectError(body, "ERR_ARGUMENT"));

  test.for<[string, () => unknown]>([
    ["zeros", () => heed.zeros([1], { dtype: any("f64") })],
    ["cast", () => heed.cast(f(1), any("f8"))],
    ["two dtypes", () => heed.add(f(2), heed.cast(f(2), "bf16"))],
    ["a weight in another 16-bit type", () => heed.linear(heed.cast(f(2, 3), "bf16"), heed.cast(f(4, 3), "f16"))],
    ["a bf16 weight of f32", () => heed.layerNorm(f(2, 3), { weight: heed.cast(f(3), "bf16") })],
    ["a bf16 residual of f32", () => heed.addRmsNorm(f(2, 3), heed.cast(f(2, 3), "bf16"))],
    ["a table in bf16", () => heed.rotary(heed.cast(f(1, 1, 1, 2), "bf16"), heed.cast(turns(1, 1), "bf16"))],
    ["moments in bf16", () => new heed.AdamW([["x", heed.cast(f(2), "bf16")]])],
  ])("a dtype that is not there throws ERR_DTYPE: %s", ([, body]) => expectError(body, "ERR_DTYPE"));

  test("too little memory throws ERR_OOM, and the device still works", async () => {
    expectError(() => heed.zeros([2 ** 46]), "ERR_OOM", /out of memory|expected to allocate less/);
    expectError(() => heed.zeros([2 ** 40]), "ERR_OOM", /out of memory/);
    expectError(() => heed.zeros([2 ** 40, 2 ** 40]), "ERR_SHAPE", /expected fewer/);
    expect(await heed.add(f(2), 1).toArray()).toEqual([2, 2]);
  });

  test("an error on the device is reported to its readers, or by synchronize() if there was none", async () => {
    using table = f(3, 2);
    using good = heed.add(table, 1);
    using bad = heed.embedding(i(7), table);
    using after = heed.add(table, 2);
    await expectRejection(bad.data(), "ERR_RANGE");
    expect([...(await after.data())]).toEqual(Array(6).fill(3));
    expect([...(await good.data())]).toEqual(Array(6).fill(2));
    await device().synchronize();
    using loss = heed.crossEntropy(table, i(0, 5, 0));
    await expectRejection(device().synchronize(), "ERR_RANGE");
    await device().synchronize();
    expect(loss.shape).toEqual([]);
  });

  /** Shapes of these numbers give tensors that are small, or larger than the memory. */
  const number = fc.oneof(
    fc.integer({ min: -3, max: 7 }),
    fc.double({ min: -2, max: 2 }),
    fc.constantFrom(NaN, Infinity, -Infinity, -0, 2 ** 31, 2 ** 53, 2 ** 60, 1e300, 5e-324),
  );
  const tensors = fc.constantFrom<() => unknown>(
    () => f(2, 3),
    () => f(),
    () => f(0, 3),
    () => heed.transpose(f(3, 2)),
    () => f(2, 3, 4, 5),
    () => i(0, 1),
    () => i(-7, 2 ** 31 - 1),
    () => heed.ones([2, 3], { dtype: "u8" }),
    () => heed.ones([2, 3], { dtype: "bf16" }),
    gone,
  );
  const junk = fc.oneof(
    number,
    tensors.map((make) => make()),
    fc.array(number, { maxLength: 10 }),
    fc.constantFrom<unknown>(
      "f32",
      "cpu",
      "relu",
      "oi",
      new Float32Array(3),
      new DataView(new ArrayBuffer(8)),
      new Map(),
    ),
    fc.constantFrom<unknown>(Symbol("s"), () => 1, 5n, Object.create(null), device("cpu"), new Proxy({}, {})),
    fc.anything({
      values: [fc.boolean(), number, fc.string(), fc.constantFrom(null, undefined)],
      maxDepth: 3,
      maxKeys: 3,
      withBigInt: true,
      withDate: true,
      withMap: true,
      withNullPrototype: true,
      withSparseArray: true,
      withTypedArray: true,
    }),
  );

  /** The valid arguments, some of which, or some parts of which, are replaced. */
  function spoilt(args: unknown[]): fc.Arbitrary<unknown[]> {
    const part = (value: unknown): fc.Arbitrary<unknown> => {
      const plain = value !== null && typeof value === "object" && Object.getPrototypeOf(value) === Object.prototype;
      const whole = plain
        ? fc.record(Object.fromEntries(Object.entries(value).map(([key, item]) => [key, part(item)])), {
            requiredKeys: [],
          })
        : fc.constant(value);
      return fc.oneof({ weight: 3, arbitrary: whole }, { weight: 1, arbitrary: junk });
    };
    return fc.tuple(...args.map(part)).chain((list) => fc.nat(list.length).map((n) => (n === 0 ? [] : list)));
  }

  test.for(calls.filter(({ name }) => name !== "setThreads"))("junk never crashes $name", async (call) => {
    const args = call.args();
    await fc.assert(
      fc.asyncProperty(spoilt(args), async (list) => {
        try {
          const result = run(call, list.length ? list : []);
          for (const value of [result, ...Object.values(result ?? {})])
            if (value instanceof Tensor && !value.disposed) await value.data();
        } catch (error) {
          if (!(error instanceof HeedError)) throw error;
          expect(["ERR_INTERNAL", "ERR_NATIVE"], error.message).not.toContain(error.code);
        }
      }),
      { numRuns: name === "cpu" ? 300 : 60, seed: 1 },
    );
    await device()
      .synchronize()
      .catch(() => undefined);
  });
});
