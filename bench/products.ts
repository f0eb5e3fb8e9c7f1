/**
 * npm run bench:products -- [--rows 1] [--dtype f32] [--runs 5] [--only Q4] [--before FOLDER]
 *
 * Measures products of activations with weights that are read from memory, as in decoding, for each format of GGUF's
 * blocks and for heed's own 8 and 4 bits: GB/s of weights for few rows, and GFLOP/s for 16 rows or more. A run multiplies
 * by so many weights in turn that no cache holds them, on one thread and on two. --before names a folder with another
 * build of the addon in build/Release; it takes its turn after each run of this one. Figures are medians of the runs.
 */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import {
  type BlockFormat,
  type CompressedTensors,
  device,
  type FloatDType,
  noGrad,
  quantize,
  quantizedLinear,
  randn,
  setThreads,
  tensor,
} from "heed";
import { statistics } from "./statistics.js";

const { values: flags } = parseArgs({
  options: {
    rows: { type: "string", default: "1" },
    dtype: { type: "string", default: "f32" },
    runs: { type: "string", default: "5" },
    only: { type: "string", default: "" },
    before: { type: "string" },
    child: { type: "boolean", default: false },
  },
});
const rows = Number(flags.rows);
const manyRows = rows >= 16;

/** Numbers and bytes of a block. */
const formats: Record<BlockFormat, [numbers: number, bytes: number]> = {
  ...{ Q8_0: [32, 34], Q4_0: [32, 18], Q4_1: [32, 20], Q5_0: [32, 22], Q5_1: [32, 24] },
  ...{ Q2_K: [256, 84], Q3_K: [256, 110], Q4_K: [256, 144], Q5_K: [256, 176], Q6_K: [256, 210] },
  ...{ IQ4_NL: [32, 18], IQ4_XS: [256, 136], MXFP4: [32, 17] },
};
const names = [...(Object.keys(formats) as BlockFormat[]), "int8", "int4"] as const;
/** Inputs and outputs. */
const shapes = [
  [768, 3072],
  [4096, 4096],
] as const;
const cacheBytes = 160 * 2 ** 20;

/** Returns a function that makes copies of a weight, and the bytes of one. */
function weightOf(name: (typeof names)[number], inputs: number, outputs: number): [() => CompressedTensors, number] {
  if (name === "int8" || name === "int4") {
    const bits = name === "int8" ? 8 : 4;
    const floats = randn([outputs, inputs], { device: "cpu", seed: 1 });
    // Codes, and a scale in bf16 for each 32.
    return [() => quantize(floats, { bits }), (inputs * outputs * (bits + 0.5)) / 8];
  }
  const [numbers, bytes] = formats[name];
  const row = (inputs / numbers) * bytes;
  // Bytes below 120 make no scale infinite.
  const random = Uint8Array.from({ length: outputs * row }, () => Math.random() * 120);
  // Random exponents of MXFP4 would make subnormal numbers, with which processors are slow.
  if (name === "MXFP4") for (let at = 0; at < random.length; at += bytes) random[at] = 120;
  const blocks = () => tensor(random, [outputs, row], { device: "cpu", dtype: "u8" });
  return [() => ({ blocks: blocks(), format: name, inputs, outputs }), random.length];
}

/** Resolves to GB/s or GFLOP/s by the name of the case. */
async function measure(): Promise<Record<string, number>> {
  const rates: Record<string, number> = {};
  for (const name of names.filter((name) => new RegExp(flags.only).test(name)))
    for (const [inputs, outputs] of shapes) {
      const [weight, bytes] = weightOf(name, inputs, outputs);
      const count = manyRows ? 2 : Math.ceil(cacheBytes / bytes);
      const weights = Array.from({ length: count }, weight);
      using x = randn([rows, inputs], { device: "cpu", dtype: flags.dtype as FloatDType, seed: 2 });
      for (const threads of [1, 2]) {
        setThreads(threads);
        const pass = async (): Promise<number> => {
          const start = performance.now();
          for (const weight of weights) noGrad(() => quantizedLinear(x, weight)).dispose();
          await device("cpu").synchronize();
          return (performance.now() - start) / 1000 / weights.length;
        };
        await pass();
        const work = manyRows ? 2 * rows * inputs * outputs : bytes;
        rates[`${name} ${inputs} × ${outputs}, ${threads}`] = work / (await pass()) / 1e9;
      }
      for (const weight of weights)
        for (const one of "blocks" in weight ? [weight.blocks] : [weight.codes, weight.scales]) one.dispose();
    }
  return rates;
}

function runs(): void {
  const builds = flags.before === undefined ? [undefined] : [undefined, flags.before];
  const rates = builds.map(() => new Map<string, number[]>());
  for (let run = 0; run < Number(flags.runs); run++)
    for (const [i, folder] of builds.entries()) {
      const { stdout, status } = spawnSync(
        process.execPath,
        [fileURLToPath(import.meta.url), "--child", ...process.argv.slice(2)],
        {
          encoding: "utf8",
          stdio: ["ignore", "pipe", "inherit"],
          env: { ...process.env, ...(folder !== undefined && { HEED_PREBUILD: folder }) },
        },
      );
      if (status !== 0) throw new Error(`a run ended with ${status}`);
      for (const [name, rate] of Object.entries(JSON.parse(stdout) as Record<string, number>))
        rates[i]!.set(name, [...(rates[i]!.get(name) ?? []), rate]);
    }
  const unit = manyRows ? "GFLOP/s" : "GB/s";
  console.log(`${rows} rows of ${flags.dtype}; ${unit}: this build${builds.length > 1 ? ", the other one" : ""}`);
  for (const name of rates[0]!.keys()) {
    const medians = rates.map((one) => statistics(one.get(name)!).median.toFixed(manyRows ? 0 : 1));
    console.log(`${name.padEnd(26)} ${medians.join("  ")}`);
  }
}

if (flags.child) console.log(JSON.stringify(await measure()));
else runs();
