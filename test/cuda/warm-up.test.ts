/**
 * Tests loading kernels: those that a model needs, in threads, and beside launches of other kernels. Modules load
 * slowly here.
 */
import { expect, test, vi } from "vitest";

vi.hoisted(() => {
  process.env.HEED_SIMULATOR_LOAD_TIME = "150000"; // microseconds; read when the driver is opened
});

import { device } from "../../lib/core/device.js";
import { randn, tensor } from "../../lib/core/creation.js";
import { neededImages, type WarmUpProgress } from "../../lib/core/kernel-images.js";
import { GPT } from "../../lib/models/gpt.js";
import { AdamW } from "../../lib/optim/adamw.js";
import { native } from "../../lib/core/native.js";
import { DropoutSeeds } from "../../lib/nn/dropout.js";
import { Initializer } from "../../lib/nn/init.js";
import { TransformerBlock } from "../../lib/nn/transformer-block.js";
import { expectChild } from "../support/child.js";
import { expectRejection } from "../support/errors.js";
import { pausesOf } from "../support/pauses.js";
import { testUnless } from "../support/skip.js";
import type { Pauses } from "../support/turns.js";
import { noSimulator } from "../support/cuda.js";

const config = { vocabularySize: 64, contextLength: 32, layers: 1, heads: 2, width: 128 };
const loadedNow = (): Set<string> =>
  new Set(native.kernelImages(1).flatMap(({ name, loaded }) => (loaded ? [name] : [])));

testUnless(noSimulator)("the first forward pass of a bf16 block loads at most 6 images", () => {
  const x = randn([1, 32, 128], { seed: 1, device: "cuda" }).to("bf16");
  const init = new Initializer(3, device("cuda"));
  const block = new TransformerBlock({ width: 128, heads: 2, causal: true }, init, new DropoutSeeds(0)).to("bf16");
  const before = loadedNow();
  block.forward(x);
  const loaded = [...loadedNow()].filter((name) => !before.has(name));
  expect(loaded.length, loaded.join(", ")).toBeLessThanOrEqual(6);
  expect(loaded).toContain("attention_forward_mma.64_bf16");
});

testUnless(noSimulator)("a model is warmed up while the event loop keeps running", async () => {
  const cuda = device("cuda");
  using model = new GPT(config).to(cuda);
  const dtypes = ["f16", "bf16", "f32"] as const;
  const steps: WarmUpProgress[] = [];
  const least: Pauses = { busy: Infinity, asleep: Infinity };
  // Each round has images of its own to load; other work of the machine can only make a pause longer.
  for (const dtype of dtypes) {
    const other = { isQuantized: false, parameters: () => [{ dtype }], modules: () => model.modules() };
    const { busy, asleep } = await pausesOf(() => cuda.warmUp(other, { onProgress: (step) => steps.push(step) }));
    least.busy = Math.min(least.busy, busy);
    least.asleep = Math.min(least.asleep, asleep);
  }
  expect(least.busy).toBeLessThan(50);
  expect(least.asleep).toBeLessThan(50);
  const last = steps.at(-1)!;
  expect(last.loaded).toBe(last.total);
  // Nothing is left to load for a step of training.
  const before = loadedNow();
  using optimizer = new AdamW(model.namedParameters());
  using ids = tensor(new Int32Array(32), [1, 32], { device: "cuda" });
  using loss = model.loss(ids, ids);
  loss.backward();
  optimizer.step();
  await loss.item();
  expect([...loadedNow()].filter((name) => !before.has(name))).toEqual([]);
});

test("the images of a model are those of its dtypes and heads", () => {
  const names = [
    ...["32", "64", "128"].flatMap((size) => ["bf16", "f16"].map((dtype) => `attention_forward_mma.${size}_${dtype}`)),
    ...["64_f32", "128_f32", "large_bf16", "masked_64_f32"].map((part) => `attention_forward_fma.${part}`),
    ...[
      "gemm_bf16.large_k",
      "gemm_f16.few",
      "gemm_tf32.small",
      "layernorm.bf16",
      "layernorm.f32",
      "gemm_quantized",
      "gemm_decoded_bf16.few_blocks",
      "gemm_decoded_f16.large_8",
      "copy",
    ],
  ];
  const of = (dtype: string, headSize: number, isQuantized = false): string[] => {
    const module = { headSize };
    return [...neededImages(names, { isQuantized, parameters: () => [{ dtype }], modules: () => [["h", module]] })];
  };
  expect(of("bf16", 33)).toEqual(["attention_forward_mma.64_bf16", "gemm_bf16.large_k", "layernorm.bf16", "copy"]);
  expect(of("bf16", 200)).toContain("attention_forward_fma.large_bf16");
  expect(of("f32", 500)).toEqual(["attention_forward_fma.128_f32", "layernorm.f32", "copy"]);
  expect(of("f16", 16, true)).toEqual([
    "attention_forward_mma.32_f16",
    "gemm_f16.few",
    "gemm_quantized",
    "gemm_decoded_f16.large_8",
    "copy",
  ]);
});

testUnless(noSimulator)("a signal ends it, and bad arguments are refused", async () => {
  const cuda = device("cuda");
  using model = new GPT({ ...config, heads: 1 });
  await expect(cuda.warmUp(model, { signal: AbortSignal.abort("no") })).rejects.toBe("no");
  const controller = new AbortController();
  const steps: number[] = [];
  const onProgress = ({ loaded }: WarmUpProgress): void => {
    steps.push(loaded);
    controller.abort(new Error("enough"));
  };
  // Heads of 128 have images that no other test has loaded.
  await expect(cuda.warmUp(model, { onProgress, signal: controller.signal })).rejects.toThrow("enough");
  expect(steps).toEqual([1]);
  await expectRejection(cuda.warmUp(7 as never), "ERR_ARGUMENT");
  await expectRejection(cuda.warmUp({} as never), "ERR_ARGUMENT");
  for (const options of [{ dtypes: ["i8"] }, { onProgress: 1 }, { signal: 1 }])
    await expectRejection(cuda.warmUp(model, options as never), "ERR_ARGUMENT");
  await device("cpu").warmUp(model);
});

testUnless(noSimulator)("a worker launches loaded kernels while another thread loads", async () => {
  const output = await expectChild(
    `
    const busy = worker(\`
      const x = heed.ones([4], { device: "cuda" });
      heed.add(x, x).dispose();
      parentPort.postMessage("ready");
      let longest = 0;
      parentPort.once("message", () => {
        parentPort.postMessage(longest);
        process.exit();
      });
      setInterval(() => {
        const start = performance.now();
        heed.add(x, x).dispose();
        longest = Math.max(longest, performance.now() - start);
      }, 1);
    \`);
    await once(busy, "message");
    const x = heed.ones([4, 4], { device: "cuda" });
    heed.softmax(x).dispose(); // holds up this thread while its image loads
    busy.postMessage("end");
    const [longest] = await once(busy, "message");
    console.log(longest < 700 ? "went on" : "waited " + longest + " ms");
    `,
    0,
    { HEED_SIMULATOR_LOAD_TIME: "1000000" },
  );
  expect(output).toBe("went on");
});
