import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

/**
 * Peaks in GFLOP/s (f32 and, if the machine has vectors with instructions for it, bf16), 10^9 operations a second (bytes and,
 * with AVX2, numbers of 16 bits), and GB/s (reading memory).
 */
export interface Peaks {
  f32: number;
  bf16?: number;
  bytes?: number;
  words?: number;
  read: number;
}

/** Measures the peaks of the cores with a program (peaks.c) that the C compiler builds. */
export class PeakMeter {
  private constructor(private readonly program: string) {}

  /** Builds the program for the instruction set that the machine's name says; returns null if there is no compiler. */
  static build(machine: string): PeakMeter | null {
    const source = fileURLToPath(new URL("../../bench/peaks.c", import.meta.url));
    const program = path.join(mkdtempSync(path.join(tmpdir(), "heed-peaks-")), "peaks");
    const set = machine.includes("(avx2,") ? ["-mno-avx512f"] : [];
    const options = ["-O3", "-march=native", ...set, "-ffp-contract=fast", "-pthread", "-o", program, source];
    if (spawnSync("cc", options).status === 0) return new PeakMeter(program);
    rmSync(path.dirname(program), { recursive: true });
    return null;
  }

  measure(threads: number): Peaks {
    return JSON.parse(spawnSync(this.program, [String(threads)], { encoding: "utf8" }).stdout) as Peaks;
  }

  remove(): void {
    rmSync(path.dirname(this.program), { recursive: true });
  }
}
