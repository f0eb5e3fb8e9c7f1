/**
 * Tests recorded operations: they compute the same as the operations themselves, keep their memory, and give it back.
 */
import { describe, expect, test, vi } from "vitest";
import { detach, isRecording } from "../lib/core/autograd.js";
import { device as deviceOf } from "../lib/core/device.js";
import { generateTokens } from "../lib/generate/generate-tokens.js";
import type { TokenOptions } from "../lib/generate/options.js";
import { Graph } from "../lib/core/graph.js";
import type { GPT } from "../lib/models/gpt.js";
import { native, ops } from "../lib/core/native.js";
import { add, mul } from "../lib/ops/binary.js";
import { embedding } from "../lib/ops/embedding.js";
import { matmul } from "../lib/ops/matmul.js";
import { softmax } from "../lib/ops/softmax.js";
import { AdamW } from "../lib/optim/adamw.js";
import { scope } from "../lib/core/scope.js";
import { ones, tensor, zeros } from "../lib/core/creation.js";
import type { Tensor } from "../lib/core/tensor.js";
import { smallGpt, someTokens } from "./generate/models.js";
import { expectError, expectRejection } from "./support/errors.js";
import { collectGarbage } from "./support/gc.js";
import { devicesHere, devicesTested, orCpu } from "./support/targets.js";

describe.each(devicesTested)("a graph on $name", (target) => {
  const device = deviceOf(orCpu(target.device));
  const options = { device };

  test("runs the recorded operations on the current values of its tensors", async () => {
    using x = zeros([3, 3], options);
    using w = tensor([1, 2, 3, 4, 5, 6, 7, 8, 9], [3, 3], options);
    using out = zeros([3, 3], options);
    const body = (): void => scope(() => ops.copy({ out, inp: softmax(mul(add(matmul(x, w), 1), 0.1)) }));
    body();
    const before = await out.data();
    out.set(new Float32Array(9));
    using graph = Graph.capture(device, body);
    expect([...(await out.data())], "recording runs nothing").toEqual(new Array(9).fill(0));
    graph.launch();
    expect(await out.data()).toEqual(before);
    for (const seed of [1, 2, 3]) {
      x.set(Array.from({ length: 9 }, (_, i) => Math.sin(i * seed)));
      graph.launch();
      const recorded = await out.data();
      body();
      expect(recorded).toEqual(await out.data());
      expect(recorded).not.toEqual(before);
    }
  });

  test("owns the memory of tensors that were freed during its recording, until it is disposed", async () => {
    using x = ones([1000], options);
    using out = zeros([1000], options);
    const before = device.memory();
    const graph = Graph.capture(device, () => scope(() => ops.copy({ out, inp: add(add(x, 1), 1) })));
    expect(device.memory().live).toBeGreaterThan(before.live);
    // Tensors that are made meanwhile lie elsewhere.
    using other = tensor(new Float32Array(1000).fill(7), [1000], options);
    graph.launch();
    expect([await other.data(), await out.data()]).toEqual([
      new Float32Array(1000).fill(7),
      new Float32Array(1000).fill(3),
    ]);
    other.dispose();
    // A launched graph runs to its end although the graph is disposed, even if its memory is reused at once.
    x.set(new Float32Array(1000).fill(4));
    graph.launch();
    graph.dispose();
    using next = tensor(new Float32Array(1000).fill(9), [1000], options);
    expect([await out.data(), await next.data()]).toEqual([
      new Float32Array(1000).fill(6),
      new Float32Array(1000).fill(9),
    ]);
    next.dispose();
    const { live, tensors } = device.memory();
    expect([live, tensors]).toEqual([before.live, before.tensors]);
    graph.dispose();
    expectError(() => graph.launch(), "ERR_DISPOSED", /expected a live graph, got a disposed one/);
  });

  test("keeps its inputs and outputs, although they are disposed meanwhile", async () => {
    const x = tensor(new Float32Array(1000).fill(2), [1000], options);
    const made: Tensor[] = [];
    using out = zeros([1000], options);
    const before = device.memory();
    const graph = Graph.capture(device, () => {
      made.push(add(x, 1));
      ops.copy({ out, inp: made[0]! });
    });
    x.dispose();
    made[0]!.dispose();
    // If their memory were handed out again, these tensors would get it.
    using others = ones([2, 1000], options);
    using one = ones([1000], options);
    const emptied = device.emptyCache();
    graph.launch();
    expect([await out.data(), await one.data()]).toEqual([
      new Float32Array(1000).fill(3),
      new Float32Array(1000).fill(1),
    ]);
    await emptied;
    others.dispose();
    one.dispose();
    graph.dispose();
    expect(device.memory().live).toBe(before.live - 4000);
  });

  test("finds what is wrong with data at each launch", async () => {
    using ids = tensor(Int32Array.of(1, 2), [2], options);
    using table = ones([5, 4], options);
    using out = zeros([2, 4], options);
    using graph = Graph.capture(device, () => scope(() => ops.copy({ out, inp: embedding(ids, table) })));
    await device.synchronize();
    for (const [id, fails] of [
      [4, false],
      [5, true],
      [0, false],
      [-1, true],
    ] as const) {
      ids.set([id, 0]);
      graph.launch();
      if (fails) await expectRejection(out.data(), "ERR_RANGE", /expected ids in \[0, 5\), got -?\d at position 0/);
      else expect([...(await out.data())]).toEqual(new Array(8).fill(1));
    }
  });

  test("refuses copies to or from the host, and nested recordings; the device still works after each", async () => {
    using x = ones([4], options);
    const other = devicesHere.find((one) => one.device !== target.device)?.device;
    const elsewhere = other ? ones([4], { device: other }) : null;
    await collectGarbage();
    const before = device.memory();
    for (const body of [
      () => void native.read(x.handle),
      () => x.set([1, 2, 3, 4]),
      () => void tensor([1], [1], options),
      ...(other && elsewhere ? [() => void x.to(other), () => void elsewhere.to(device)] : []),
      () => void Graph.capture(device, () => undefined),
    ]) {
      let failed: unknown;
      expect(() =>
        Graph.capture(device, () => {
          try {
            scope(body);
          } catch (error) {
            failed = error;
            throw error;
          }
        }),
      ).toThrow();
      expectError(
        () => {
          throw failed;
        },
        "ERR_ARGUMENT",
        /expected no/,
      );
      expect([...(await x.data())]).toEqual([1, 1, 1, 1]);
    }
    elsewhere?.dispose();
    expect(device.memory()).toMatchObject({ live: before.live, tensors: before.tensors });
    expectError(() => native.endCapture(device.index), "ERR_ARGUMENT", /expected begin_capture before end_capture/);
  });
});

describe.each(devicesTested)("a recorded step of decoding on $name", ({ device }) => {
  const ways: Record<string, TokenOptions> = {
    greedy: { temperature: 0 },
    sampled: { topK: 20, topP: 0.9, minP: 0.02, temperature: 1.2 },
    "with a repetition penalty": { repetitionPenalty: 1.3 },
  };
  // The sequences end at different times, so that rows are removed, and the longest slide beyond the context of 24.
  const prompts = [3, 20, 9].map((length, i) => someTokens(length, i));

  /** Returns how often a graph was launched. */
  async function launches(body: () => Promise<unknown>): Promise<number> {
    const spy = vi.spyOn(native, "launchGraph");
    await body();
    const count = spy.mock.calls.length;
    spy.mockRestore();
    return count;
  }

  function unrecorded(model: GPT): GPT {
    Object.defineProperty(model, "recordable", { value: false });
    return model;
  }

  test.for(Object.entries(ways))("gives the same tokens as without recording, %s", async ([, way]) => {
    using model = smallGpt(device);
    using plain = unrecorded(smallGpt(device));
    const options: TokenOptions = { ...way, seed: 3, maxTokens: 30, stopTokens: [7], overflow: "slide" };
    await collectGarbage();
    const before = model.device.memory();
    let recorded: unknown;
    let direct: unknown;
    expect(await launches(async () => (recorded = await generateTokens(model, prompts, options)))).toBeGreaterThan(20);
    expect(await launches(async () => (direct = await generateTokens(plain, prompts, options)))).toBe(0);
    expect(recorded).toEqual(direct);
    expect(model.device.memory()).toMatchObject({ live: before.live, tensors: before.tensors });
  });

  test("several batches in turn and at once do not disturb each other", async () => {
    using model = smallGpt(device);
    using plain = unrecorded(smallGpt(device));
    const batches = [[prompts[0]!], [prompts[1]!, prompts[2]!], prompts];
    const options = (i: number): TokenOptions => ({ seed: i, maxTokens: 12 });
    const expected = [];
    for (const [i, batch] of batches.entries()) expected.push(await generateTokens(plain, batch, options(i)));
    await collectGarbage();
    const before = model.device.memory();
    const inTurn = [];
    for (const [i, batch] of batches.entries()) inTurn.push(await generateTokens(model, batch, options(i)));
    expect(inTurn).toEqual(expected);
    expect(await Promise.all(batches.map((batch, i) => generateTokens(model, batch, options(i))))).toEqual(expected);
    expect(model.device.memory()).toMatchObject({ live: before.live, tensors: before.tensors });
  });

  test("follows weights that change between generations", async () => {
    using model = smallGpt(device);
    using plain = unrecorded(smallGpt(device));
    const options = { temperature: 0, maxTokens: 10 };
    const said = [];
    for (const std of [1, 0.5, -1]) {
      for (const of of [model, plain]) {
        const { weight } = of.h[0]!.mlp.c_fc;
        weight.set((await weight.data()).map((value) => value * std));
      }
      const tokens = await generateTokens(model, prompts, options);
      expect(tokens).toEqual(await generateTokens(plain, prompts, options));
      said.push(JSON.stringify(tokens));
    }
    expect(new Set(said).size).toBeGreaterThan(1);
  });

  test.for([
    ["f32", "f32"],
    ["f32", "bf16"],
    ["f32", "f16"],
    ["bf16", "bf16"],
  ] as const)("follows weights that change between its steps, %s beside %s", async ([parameters, activations]) => {
    const said: Record<string, unknown> = {};
    for (const way of ["recorded", "direct"]) {
      using model = smallGpt(device);
      if (parameters !== "f32") model.to(parameters);
      model.dtype = activations;
      if (way === "direct") unrecorded(model);
      const named = [...model.namedParameters()];
      using optimizer = parameters === "f32" ? new AdamW(named, { lr: 0.1 }) : null;
      const { weight } = model.h[1]!.mlp.c_proj;
      const values = await weight.data();
      const train = (): void =>
        scope(() => {
          const ids = tensor(someTokens(8, 9), [1, 8], { dtype: "i32", device });
          model.loss(ids, ids).backward();
          optimizer!.step();
          optimizer!.zeroGrad();
        });
      const changes: Record<number, () => void> = {
        5: () => weight.set(values.map((value) => -value)),
        9: () => {
          using view = detach(weight);
          view.set(values);
        },
        ...(optimizer && { 13: train, 14: train, 20: train }),
      };
      let step = 0;
      const onToken = (): void => changes[++step]?.();
      said[way] = await generateTokens(model, [prompts[0]!], {
        ...{ temperature: 0, maxTokens: 40, onToken },
        overflow: "slide",
      });
    }
    expect(said.recorded).toEqual(said.direct);
  });

  test.for(["f32", "bf16"] as const)("leaves the model unchanged if it fails, in %s", async (dtype) => {
    const [failing, whole] = [smallGpt(device), smallGpt(device)];
    const train = (model: GPT): void =>
      scope(() => {
        const ids = tensor(someTokens(8, 9), [1, 8], { dtype: "i32", device });
        model.loss(ids, ids).backward();
      });
    for (const model of [failing, whole]) model.dtype = dtype;
    const forward = failing.forward.bind(failing);
    let passes = 0;
    // The pass over the prompt, one step, and the step that is recorded.
    failing.forward = (...given) => {
      const logits = forward(...given);
      if (!isRecording() && ++passes === 3) throw new Error("planted");
      return logits;
    };
    const options = { temperature: 0, maxTokens: 10 };
    // Training removes the rounded weights, so that the recording asks for them again.
    const onToken = (): void => {
      if (passes === 2) train(failing);
    };
    const failed = generateTokens(failing, prompts, { ...options, onToken });
    await expect(failed).rejects.toThrow("planted");
    expect(await generateTokens(failing, prompts, options)).toEqual(await generateTokens(whole, prompts, options));
    for (const model of [failing, whole]) model.dispose();
  });

  test("runs to its end although the model is disposed meanwhile", async () => {
    const options = { temperature: 0, maxTokens: 12 };
    using plain = smallGpt(device);
    const expected = await generateTokens(plain, [prompts[0]!], options);
    const model = smallGpt(device);
    const launch = vi.spyOn(native, "launchGraph").mockImplementationOnce((graph) => {
      launch.mockRestore();
      model.dispose();
      void model.device.emptyCache();
      native.launchGraph(graph);
    });
    expect(await generateTokens(model, [prompts[0]!], options)).toEqual(expected);
    expectError(() => model.forward(zeros([1, 1], { device, dtype: "i32" })), "ERR_DISPOSED", /disposed/);
  });
});
