import type { FloatDType } from "heed";

/** Where a case runs and in what dtype. */
export interface Setting {
  /** "cpu", "cuda:0", … */
  device: string;
  dtype: FloatDType;
}

/** One thing to measure, and how a peer measures the same. */
export interface Case extends Setting {
  /** "gemm", "attention", …: what `--only` picks. */
  name: string;
  /** For people: "1024×1024×1024". */
  shape: string;
  /** What one run does, in one of three measures. */
  work: { flops: number } | { bytes: number } | { tokens: number };
  /** The arguments the PyTorch twin (torch_peer.py) takes; its `name` picks the function. */
  peer: Record<string, number | string>;
  prepare(): Prepared;
}

export interface Prepared {
  /** Enqueues one run; a run that reads results, and so waits itself, returns a promise. */
  run: () => void | Promise<void>;
  /** Throws if the result is wrong. Called before anything is timed. */
  verify: () => Promise<void>;
  dispose(): void;
}

/** What rounding to a dtype may change, relatively, with room for sums. */
export const tolerances: Record<FloatDType, number> = { f32: 1e-4, bf16: 2 ** -6, f16: 2 ** -9 };

export const bytesOf: Record<FloatDType, number> = { f32: 4, bf16: 2, f16: 2 };

/** Throws unless the two agree to the tolerance, which is relative to the larger of |expected| and scale. */
export function expectClose(what: string, got: number, expected: number, tolerance: number, scale = 1): void {
  if (!(Math.abs(got - expected) <= tolerance * Math.max(scale, Math.abs(expected))))
    throw new Error(`${what}: expected ${expected}, got ${got}`);
}
