/**
 * Loading takes the memory of the model and of some pieces of its file: at most 1.2 times the final size of the model,
 * whatever the format and the target. The nightly run measures this on a model of GPT-2's shape.
 */
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { device as deviceOf } from "../../lib/core/device.js";
import { GPT } from "../../lib/models/gpt.js";
import { Llama } from "../../lib/models/llama.js";
import { saveGguf } from "../../lib/pretrained/gguf/save-gguf.js";
import { loadModel, type LoadModelOptions } from "../../lib/pretrained/load-model.js";
import { saveLlama2c } from "../../lib/pretrained/families/save-llama2c.js";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { nightly } from "../support/nightly.js";
import { expectChild, patience } from "../support/child.js";
import { sharedFolder } from "../support/folder.js";
import { describeUnless, linuxOnly } from "../support/skip.js";
import { onEachDevice } from "../support/targets.js";

const folder = sharedFolder();
const at = (name: string): string => path.join(folder, name);
const MiB = 2 ** 20;

/**
 * Growth of a process that does not depend on the model's size: pieces of a file, copies of them in transit, and
 * JavaScript's own memory. A model of GPT-2's shape is so large that it hardly needs any besides the factor.
 */
const growth = (nightly ? 4 : 16) * MiB;

const size = nightly
  ? { vocabularySize: 50_257, width: 768, layers: 12, heads: 12, contextLength: 1024 }
  : { vocabularySize: 16_000, width: 512, layers: 4, heads: 8, contextLength: 64 };

interface Case {
  file: string;
  save: (file: string, model: GPT) => Promise<unknown>;
  loads: LoadModelOptions[];
}

const int8 = { quantize: 8 } as const;
const int4 = { quantize: 4 } as const;
const cases: Case[] = [
  {
    file: "f32",
    save: (file, model) => savePretrained(file, model),
    loads: [{}, int8, int4, ...(nightly ? [{ dtype: "bf16" } as const, { dtype: "bf16", ...int8 } as const] : [])],
  },
  {
    file: "bf16",
    save: (file, model) => savePretrained(file, model, { dtype: "bf16" }),
    loads: [{ dtype: "bf16" }, { dtype: "f32" }, ...(nightly ? [{}, { dtype: "f16" } as const, int8] : [])],
  },
  {
    file: "q8.gguf",
    save: (file, model) => saveGguf(file, model, { type: "Q8_0" }),
    loads: [int8, ...(nightly ? [{}, { dtype: "bf16" } as const, int4] : [])],
  },
  ...(nightly
    ? ([
        {
          file: "shards",
          save: (file, model) => savePretrained(file, model, { shardBytes: 6e7 }),
          loads: [{}, int8],
        },
        {
          file: "f16.gguf",
          save: (file, model) => saveGguf(file, model, { type: "F16" }),
          loads: [{ dtype: "f16" }, { dtype: "f32" }, int8],
        },
      ] satisfies Case[])
    : []),
];

/**
 * Returns a program that loads a model and prints the largest growth of the process in bytes, and the bytes of the
 * model.
 */
const program = (file: string, options: LoadModelOptions): string => `
  import { readFileSync } from "node:fs";
  const bytes = (key) => 1024 * Number(new RegExp(key + ":\\\\s+(\\\\d+)").exec(readFileSync("/proc/self/status", "utf8"))[1]);
  const before = bytes("VmRSS");
  const { model } = await heed.load(${JSON.stringify(file)}, ${JSON.stringify({ device: "cpu", ...options })});
  await model.device.synchronize();
  console.log(bytes("VmHWM") - before, model.device.memory().live);
`;

// The peak of a process is read from Linux's /proc; a sanitizer has memory of its own.
describeUnless(process.platform !== "linux" ? linuxOnly : patience !== 1 && "measure memory, not under a sanitizer")(
  "a process",
  { timeout: 600_000 },
  () => {
    beforeAll(async () => {
      using model = new GPT(size, { seed: 1, device: "cpu" });
      for (const { file, save } of cases) await save(at(file), model);
      await model.device.emptyCache();
    }, 600_000);

    const loads = cases.flatMap(({ file, loads }) => loads.map((options) => ({ file, options })));
    test.each(loads)("that loads $file with $options", async ({ file, options }) => {
      const [peak, live] = (await expectChild(program(at(file), options))).split(" ").map(Number) as [number, number];
      const figures = `${(peak / MiB).toFixed(0)} MiB for a model of ${(live / MiB).toFixed(0)}`;
      if (nightly) console.log(`${file} ${JSON.stringify(options)}: ${figures}`);
      expect(peak, figures).toBeLessThan(1.2 * live + growth);
    });
  },
);

onEachDevice((device) => {
  const small = { vocabularySize: 100, width: 64, layers: 8, heads: 4, contextLength: 16 };
  const memory = () => deviceOf(device).memory();
  const files = [`${device}-folder`, `${device}.gguf`, `${device}.bin`].map((name) => at(name.replace(":", "-")));

  beforeAll(async () => {
    using gpt = new GPT(small, { seed: 1 });
    using llama = new Llama({ ...small, kvHeads: 2, feedForwardWidth: 128 }, { seed: 1 });
    await savePretrained(files[0]!, gpt);
    await saveGguf(files[1]!, gpt, { type: "F16" });
    await saveLlama2c(files[2]!, llama);
  });
  afterAll(() => deviceOf(device).emptyCache());

  test("a device never holds more than the model and the pieces of one matrix in transit", async () => {
    const matrix = 4 * 4 * small.width ** 2;
    for (const file of files)
      for (const options of [{}, { dtype: "bf16" } as const, int8, int4]) {
        deviceOf(device).resetPeak();
        const before = memory().live;
        const { model } = await loadModel(file, options);
        const after = memory();
        expect(after.peak - before, `${file} ${JSON.stringify(options)}`).toBeLessThan(
          1.2 * (after.live - before) + 2.5 * matrix,
        );
        model.dispose();
        expect(memory().live).toBe(before);
      }
  });
});
