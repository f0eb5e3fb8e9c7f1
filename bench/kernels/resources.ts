/** What ptxas says of every kernel, and the occupancy that follows from it. */
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";

export interface Resources {
  file: string;
  kernel: string;
  threads: number;
  registers: number;
  spillBytes: number;
  /** Bytes of shared memory that every launch has. */
  staticShared: number;
}

/** All kernels of the PTX files in `folder`, compiled for sm_80. */
export function resourcesOf(folder: string): Resources[] {
  const files = readdirSync(folder).filter((name) => name.endsWith(".ptx") && name !== "probe.ptx");
  if (files.length === 0) throw new Error(`no PTX in ${folder}: build the addon with nvcc on the PATH`);
  return files.sort().flatMap((name) => {
    const file = path.join(folder, name);
    const threads = threadsOf(readFileSync(file, "utf8"));
    const { status, stderr, error } = spawnSync("ptxas", ["-v", "-arch=sm_80", file, "-o", "/dev/null"], {
      encoding: "utf8",
      maxBuffer: 1 << 28,
    });
    if (status !== 0) throw error ?? new Error(`ptxas: ${stderr}`);
    return parse(name, stderr, threads);
  });
}

/** Threads of each kernel's blocks, from `.maxntid`. */
function threadsOf(ptx: string): Map<string, number> {
  const found = ptx.matchAll(/\.entry\s+(\w+)\([^)]*\)\s*\.maxntid\s+(\d+)/g);
  return new Map([...found].map(([, kernel, threads]) => [kernel!, Number(threads)]));
}

function parse(file: string, log: string, threads: Map<string, number>): Resources[] {
  return log
    .split(/Compiling entry function '/)
    .slice(1)
    .map((text) => {
      const number = (pattern: RegExp): number => Number(pattern.exec(text)?.[1] ?? 0);
      const kernel = /^\w+/.exec(text)![0];
      return {
        file: file.replace(/\.ptx$/, ".cu"),
        kernel,
        threads: threads.get(kernel) ?? 1024,
        registers: number(/Used (\d+) registers/),
        spillBytes: number(/(\d+) bytes spill stores/) + number(/(\d+) bytes spill loads/),
        staticShared: number(/(\d+) bytes smem/),
      };
    });
}

/** The share of an sm_80 multiprocessor's 64 warps that can be resident (CUDA C++ Programming Guide, compute capability 8.0). */
export function occupancy({ threads, registers, staticShared }: Resources, dynamicShared: number): number {
  const warps = Math.ceil(threads / 32);
  const perWarp = Math.ceil((registers * 32) / 256) * 256;
  const byRegisters = Math.floor((Math.floor(65536 / perWarp / 4) * 4) / warps);
  const byShared = Math.floor((164 * 1024) / (staticShared + dynamicShared + 1024));
  const blocks = Math.min(byRegisters, byShared, Math.floor(64 / warps), 32);
  return (blocks * warps) / 64;
}
