/** Reads from ptxas the resources of each kernel and the time for each image, and derives the occupancy. */
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";

/** Architectures that shipped builds have machine code for; 86 stands for compute capability 8.6. */
export const architectures = [80, 86, 89, 90, 100, 120] as const;
/** Seconds that a card without machine code may take to compile an image. */
export const mostSeconds = 2;

/** One number for each of `architectures`, in that order. */
type ByArchitecture = number[];

export interface Resources {
  /** Name of the image, such as "gemm_bf16.few". */
  image: string;
  kernel: string;
  threads: number;
  registers: ByArchitecture;
  spillBytes: ByArchitecture;
  /** Bytes of shared memory that every launch has, for sm_80. */
  staticShared: number;
}

/** Seconds of processor time that ptxas took for an image on this machine. */
export interface ImageTime {
  image: string;
  seconds: ByArchitecture;
}

interface Compiled {
  seconds: number;
  kernels: { kernel: string; registers: number; spillBytes: number; staticShared: number }[];
}

/** Returns the resources of all kernels whose PTX is in `folder`, and the time that compiling each image takes. */
export function resourcesOf(folder: string): { resources: Resources[]; times: ImageTime[] } {
  const files = readdirSync(folder).filter((name) => name.endsWith(".ptx") && name !== "probe.ptx");
  if (files.length === 0) throw new Error(`no PTX in ${folder}: build the addon with nvcc on the PATH`);
  const [resources, times]: [Resources[], ImageTime[]] = [[], []];
  for (const name of files.sort()) {
    const file = path.join(folder, name);
    const image = name.replace(/\.ptx$/, "");
    const threads = threadsOf(readFileSync(file, "utf8"));
    const compiled = architectures.map((architecture) => compile(file, architecture));
    times.push({ image, seconds: compiled.map(({ seconds }) => seconds) });
    for (const [i, { kernel, staticShared }] of compiled[0]!.kernels.entries())
      resources.push({
        image,
        kernel,
        threads: threads.get(kernel) ?? 1024,
        staticShared,
        registers: compiled.map(({ kernels }) => kernels[i]!.registers),
        spillBytes: compiled.map(({ kernels }) => kernels[i]!.spillBytes),
      });
  }
  return { resources, times };
}

/**
 * Compiles an image and measures the processor time, which other work on the machine hardly changes: the least of up to
 * three runs. ptxas has one thread.
 */
function compile(file: string, architecture: number): Compiled {
  let seconds = Infinity;
  let log = "";
  for (let i = 0; i < 3 && seconds > mostSeconds; i++) {
    const timed = 'TIMEFORMAT="processor time: %U %S"; time ptxas "$@"';
    const args = ["-c", timed, "ptxas", "-v", `-arch=sm_${architecture}`, file, "-o", "/dev/null"];
    const { status, stderr, error } = spawnSync("bash", args, { encoding: "utf8", maxBuffer: 1 << 28 });
    if (status !== 0) throw error ?? new Error(`ptxas: ${stderr}`);
    const [, user, system] = /^processor time: ([\d.]+) ([\d.]+)$/m.exec(stderr)!;
    seconds = Math.min(seconds, Number(user) + Number(system));
    log = stderr;
  }
  const kernels = parse(log).sort((a, b) => (a.kernel < b.kernel ? -1 : 1));
  return { seconds, kernels };
}

/** Returns the number of threads in a block of each kernel, which `.maxntid` gives. */
function threadsOf(ptx: string): Map<string, number> {
  const found = ptx.matchAll(/\.entry\s+(\w+)\([^)]*\)\s*\.maxntid\s+(\d+)/g);
  return new Map([...found].map(([, kernel, threads]) => [kernel!, Number(threads)]));
}

function parse(log: string): Compiled["kernels"] {
  return log
    .split(/Compiling entry function '/)
    .slice(1)
    .map((text) => {
      const number = (pattern: RegExp): number => Number(pattern.exec(text)?.[1] ?? 0);
      return {
        kernel: /^\w+/.exec(text)![0],
        registers: number(/Used (\d+) registers/),
        spillBytes: number(/(\d+) bytes spill stores/) + number(/(\d+) bytes spill loads/),
        staticShared: number(/(\d+) bytes smem/),
      };
    });
}

/** Returns the share of the 64 warps of an sm_80 multiprocessor that can be resident (CUDA C++ Programming Guide). */
export function occupancy({ threads, registers, staticShared }: Resources, dynamicShared: number): number {
  const warps = Math.ceil(threads / 32);
  const perWarp = Math.ceil((registers[0]! * 32) / 256) * 256;
  const byRegisters = Math.floor((Math.floor(65536 / perWarp / 4) * 4) / warps);
  const byShared = Math.floor((164 * 1024) / (staticShared + dynamicShared + 1024));
  const blocks = Math.min(byRegisters, byShared, Math.floor(64 / warps), 32);
  return (blocks * warps) / 64;
}
