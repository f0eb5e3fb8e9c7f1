import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

/** GFLOP/s of f32 and bf16, and GB/s of reading memory; bf16 where there are instructions for it. */
export interface Peaks {
  f32: number;
  bf16?: number;
  read: number;
}

/** What the cores can do at the most, by a program of the C compiler's (peaks.c). */
export class PeakMeter {
  private constructor(private readonly program: string) {}

  /** null where there is no compiler. */
  static build(): PeakMeter | null {
    const source = fileURLToPath(new URL("../../bench/peaks.c", import.meta.url));
    const program = path.join(mkdtempSync(path.join(tmpdir(), "heed-peaks-")), "peaks");
    const options = ["-O3", "-march=native", "-ffp-contract=fast", "-pthread", "-o", program, source];
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
