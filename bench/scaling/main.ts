/**
 * npm run bench:scaling [-- --ranks 1,2,4] [--seconds S] [--torch] [--write]
 *
 * Measures all-reduces of several sizes and the training of a GPT in several processes, fits a model on some sizes and
 * compares it with the others. With --torch, PyTorch's DistributedDataParallel over gloo takes turns with heed
 * (HEED_TORCH_PYTHON names a Python with torch). --write renews docs/scaling.md.
 */
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { cpus } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { statistics } from "../statistics.js";
import { type Cluster, fit, type Load, predict, step } from "./model.js";

const { values: flags } = parseArgs({
  options: {
    ranks: { type: "string", default: "2,3,4" },
    seconds: { type: "string", default: "8" },
    rounds: { type: "string", default: "7" },
    launcher: { type: "string", default: "mpirun.openmpi" },
    torch: { type: "boolean", default: false },
    write: { type: "boolean", default: false },
  },
});
const root = fileURLToPath(new URL("../../..", import.meta.url));
const measure = path.join(root, "bench/scaling/measure.mjs");

interface Answer<R> {
  size: number;
  version: string | null;
  result: R;
}
interface Speed {
  tokensPerSecond: number;
  parameters: number;
}

function run<R>(command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Answer<R> {
  const { stdout, stderr, status } = spawnSync(command, args, {
    encoding: "utf8",
    env: {
      ...process.env,
      OMPI_ALLOW_RUN_AS_ROOT: "1",
      OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: "1",
      OMP_NUM_THREADS: "1",
      ...env,
    },
  });
  if (status !== 0) throw new Error(`${command} ${args.join(" ")}: ${stderr}`);
  return JSON.parse(stdout.trim().split("\n").at(-1)!) as Answer<R>;
}

const launch = flags.launcher.includes("openmpi") ? ["--map-by", ":OVERSUBSCRIBE", "--bind-to", "none"] : [];
const python = process.env.HEED_TORCH_PYTHON ?? "/usr/bin/python3";

/** Runs a program in several processes, or in one on one core. */
function ranksOf<R>(size: number, program: readonly string[], args: readonly (string | number)[]): Answer<R> {
  const command = [...program, ...args.map(String)];
  return size === 1
    ? run<R>("taskset", ["-c", "0", ...command])
    : run<R>(flags.launcher, [...launch, "-np", String(size), ...command]);
}
const heed = <R>(size: number, ...args: (string | number)[]): Answer<R> =>
  ranksOf(size, [process.execPath, measure], args);
const torch = (size: number, ...args: (string | number)[]): Answer<Speed> =>
  ranksOf(size, [python, path.join(root, "bench/scaling/ddp.py")], args);

const sizes = [4, 12, 14, 16, 18, 20, 22, 24, 26].map((bits) => 2 ** bits);
const fitted = new Set([12, 18, 24].map((bits) => 2 ** bits));
const lines: string[] = [];
const say = (line = ""): void => {
  lines.push(line);
  console.log(line);
};
const bytesOf = (bytes: number): string =>
  bytes >= 2 ** 20 ? `${bytes / 2 ** 20} MiB` : bytes >= 1024 ? `${bytes / 1024} KiB` : `${bytes} B`;
const milliseconds = (seconds: number): string => `${(1000 * seconds).toPrecision(3)} ms`;
const percent = (share: number): string => `${Math.round(100 * share)} %`;

const ranks = flags.ranks.split(",").map(Number);
say("# Scaling");
say();
say(
  "`npm run bench:scaling -- --torch --write` wrote this page. [The guide](guides/distributed.md) explains the terms.",
);
say();
say(
  `The machine has ${cpus().length} cores (${cpus()[0]!.model.trim()}). Each process has one thread for kernels. More processes`,
);
say("than cores share them, so that only their correctness says something about other machines.");
say();
say("## Summing a tensor");
say();
say(
  "Median times of an all-reduce in f32, from a barrier until the slowest process has the sum. A line, latency plus bytes",
);
say(`times a factor, is fitted on ${[...fitted].map(bytesOf).join(", ")}, and predicts the other sizes.`);
say();
let version = "";
for (const size of ranks) {
  const answer = heed<Record<string, number>>(size, "allreduce", ...sizes);
  version = answer.version ?? version;
  const points = sizes.map((bytes) => ({ bytes, seconds: answer.result[bytes]! }));
  const line = fit(points.filter(({ bytes }) => fitted.has(bytes)));
  say(`${size} processes: ${milliseconds(line.latency)} + ${(1 / line.secondsPerByte / 1e9).toFixed(2)} GB/s.`);
  say();
  say("| bytes | measured | predicted | error |");
  say("| ----- | -------- | --------- | ----- |");
  for (const { bytes, seconds } of points) {
    const predicted = predict(line, bytes);
    const error = fitted.has(bytes) ? "fitted" : percent(predicted / seconds - 1);
    say(`| ${bytesOf(bytes)} | ${milliseconds(seconds)} | ${milliseconds(predicted)} | ${error} |`);
  }
  say();
  const { bytes, seconds } = points.at(-1)!;
  if (predict(line, bytes) < 0.75 * seconds) {
    say(
      `At ${bytesOf(bytes)} the buffers do not fit into the caches, and the processes share the memory's bandwidth. The line,`,
    );
    say("which has no term for that, predicts too short a time.");
    say();
  }
}

say("## Training");
say();
const [width, layers, batch] = [256, 4, 8] as const;
const seconds = Number(flags.seconds);
const speeds: Record<string, number[]> = {};
let parameters = 0;
for (let round = 0; round < Number(flags.rounds); round++)
  for (const [name, measured] of [
    ["heed, 1", () => heed<Speed>(1, "train", seconds, width, layers, batch)],
    ["heed, 2", () => heed<Speed>(2, "train", seconds, width, layers, batch)],
    ...(flags.torch
      ? ([
          ["PyTorch DDP, 1", () => torch(1, seconds, width, layers, batch)],
          ["PyTorch DDP, 2", () => torch(2, seconds, width, layers, batch)],
        ] as const)
      : []),
  ] as const) {
    const { result } = measured();
    parameters = result.parameters;
    (speeds[name] ??= []).push(result.tokensPerSecond);
    console.error(`round ${round + 1}: ${name}: ${Math.round(result.tokensPerSecond)} tokens/s`);
  }
say(
  `A GPT with ${parameters.toLocaleString("en")} parameters is trained in f32 with AdamW, on contexts of 128 tokens and with ${batch} sequences`,
);
say("in each process. One process runs on one core, and two on two. All take turns, and the speed-up is the median of");
say(`the rounds' ratios: ${flags.rounds} rounds of ${seconds} s. ${version}; gradients of PyTorch pass through gloo.`);
say();
say("| processes | tokens/s | speed-up |");
say("| --------- | -------- | -------- |");
for (const [name, all] of Object.entries(speeds)) {
  const single = speeds[`${name.slice(0, -1)}1`]!;
  // Runs that follow each other meet the machine at the same speed.
  const speedUp = statistics(all.map((speed, round) => speed / single[round]!)).median;
  say(`| ${name} | ${Math.round(statistics(all).median).toLocaleString("en")} | ${speedUp.toFixed(2)} |`);
}
say();

say("## What this says of other machines");
say();
say("Nothing here was measured, because no GPU was at hand: NCCL carries the tensors of GPUs. It is the arithmetic of");
say(
  "[model.ts](../bench/scaling/model.ts) for data parallel training with small and large buckets, with these assumptions:",
);
say();
say("- A step takes 6 operations for each parameter and token, at 40 % of the 989 TFLOP/s that an H100 does in bf16.");
say("- Gradients are f32. All but the last bucket can be sent during the backward pass, two thirds of the computing.");
say(
  "- 8 × H100: a ring passes 360 GB/s through each GPU, 80 % of what NVLink 4 can in one direction, and a hop takes 3 µs.",
);
say("- 64 nodes × 8: 40 GB/s, 80 % of a port of 400 Gb/s for each GPU, and a hop takes 5 µs.");
say("- A GPU has 16,384 tokens in a step.");
say();
const clusters: Cluster[] = [
  { name: "8 × H100", processes: 8, flops: 0.4 * 989e12, busBytes: 360e9, hop: 3e-6 },
  { name: "64 nodes × 8", processes: 512, flops: 0.4 * 989e12, busBytes: 40e9, hop: 5e-6 },
];
const loads: Load[] = [
  { name: "124 million", parameters: 124e6, tokens: 16384 },
  { name: "1.5 billion", parameters: 1.5e9, tokens: 16384 },
];
say("| machines | parameters | buckets | computing | communicating | of linear speed |");
say("| -------- | ---------- | ------- | --------- | ------------- | --------------- |");
for (const cluster of clusters)
  for (const load of loads)
    for (const bucketBytes of [4 * 2 ** 20, 256 * 2 ** 20]) {
      const { computing, communicating, efficiency } = step(cluster, load, { bucketBytes });
      say(
        `| ${cluster.name} | ${load.name} | ${bytesOf(bucketBytes)} | ${milliseconds(computing)} | ${milliseconds(communicating)} | ${percent(efficiency)} |`,
      );
    }
say();
say("With many processes the hops of a ring dominate small buckets; `bucketBytes` should grow with their number.");
if (flags.write) writeFileSync(path.join(root, "docs/scaling.md"), `${lines.join("\n")}\n`);
