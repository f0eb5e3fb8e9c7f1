/**
 * npm run kernels [-- --only "attention.*bf16"] [--write]
 *
 * Reports what every kernel takes and does. ptxas gives its registers, spills, shared memory, occupancy and the time to
 * compile it; the software device counts bytes, sectors, wavefronts, the share of matrix instructions, and launches. Apart
 * from the time, no figure depends on the machine. Each case runs in a process of its own. --write renews docs/kernels.md
 * and bench/results/kernels.json. The exit code is 1 if a limit is not kept.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { Counters, KernelCase } from "./case.js";
import { kernelCases } from "./cases.js";
import { type Figures, figuresOf, markdown, resourceTable, timeTable, trafficTable } from "./report.js";
import { architectures, mostSeconds, resourcesOf } from "./resources.js";

const { values: flags, positionals } = parseArgs({
  options: { only: { type: "string" }, write: { type: "boolean", default: false } },
  allowPositionals: true,
});
const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../../..");

/** Runs a case in a process of its own and resolves to its counters by kernel. */
function count(index: number): Record<string, Counters> {
  const folder = mkdtempSync(path.join(tmpdir(), "heed-kernels-"));
  try {
    const file = path.join(folder, "counters.json");
    const { status } = spawnSync(process.execPath, [fileURLToPath(import.meta.url), String(index)], {
      stdio: "inherit",
      env: {
        ...process.env,
        HEED_CUDA_DRIVER: path.join(root, "build/Release/libheed_cuda_simulator.so"),
        HEED_SIMULATOR_COUNT: "1",
        HEED_SIMULATOR_COUNTERS: file,
        HEED_SIMULATOR_SANITIZE: "0",
      },
    });
    if (status !== 0) throw new Error(`${kernelCases[index]!.name}: the process ended with ${status}`);
    return JSON.parse(readFileSync(file, "utf8")) as Record<string, Counters>;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function report(): void {
  const only = new RegExp(flags.only ?? "");
  const wanted = ({ name, shape, dtype }: KernelCase): boolean => only.test(`${name} ${shape} ${dtype}`);
  const figures: Figures[] = [];
  const dynamicShared = new Map<string, number>();
  for (const [index, one] of kernelCases.entries()) {
    if (!wanted(one)) continue;
    const counters = count(index);
    for (const [kernel, { launches, dynamic_shared_bytes }] of Object.entries(counters))
      if (launches)
        dynamicShared.set(kernel, Math.max(dynamicShared.get(kernel) ?? 0, dynamic_shared_bytes / launches));
    figures.push(figuresOf(one, counters));
    console.log(`${one.name} ${one.shape} ${one.dtype}: done`);
  }
  const { resources, times } = resourcesOf(path.join(root, "build/cuda"));
  const missed = [
    ...figures.flatMap((figure) => figure.missed),
    ...resources.flatMap(({ kernel, spillBytes }) =>
      architectures
        .filter((_, i) => spillBytes[i]! > 0)
        .map((architecture) => `${kernel} spills registers for sm_${architecture}`),
    ),
    ...times
      .filter(({ seconds }) => Math.max(...seconds) > mostSeconds)
      .map(
        ({ image, seconds }) => `ptxas takes ${Math.max(...seconds).toFixed(1)} s for ${image}, ${mostSeconds} at most`,
      ),
  ];
  console.log(`\n${trafficTable(figures)}\n\n${resourceTable(resources, dynamicShared)}\n\n${timeTable(times)}`);
  for (const text of missed) console.log(`target missed: ${text}`);
  if (flags.write) {
    mkdirSync(path.join(root, "bench/results"), { recursive: true });
    writeFileSync(path.join(root, "docs/kernels.md"), markdown(figures, resources, times, dynamicShared, missed));
    writeFileSync(
      path.join(root, "bench/results/kernels.json"),
      `${JSON.stringify({ figures, resources, times }, null, 2)}\n`,
    );
  }
  process.exitCode = missed.length > 0 ? 1 : 0;
}

const [index] = positionals;
if (index === undefined) report();
else await kernelCases[Number(index)]!.run();
