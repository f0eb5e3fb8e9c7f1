import type { FloatDType } from "heed";

/** Where a case runs and in what dtype. */
export interface Setting {
  /** "cpu", "cuda:0", … */
  device: string;
  dtype: FloatDType;
}

/** What one run does: the first that is there, from the top, makes the rate that is shown. */
export interface Work {
  tokens?: number;
  operations?: number;
  flops?: number;
  /** Least bytes to be read and written. */
  bytes?: number;
}

/** What a row is to reach. */
export interface Goals {
  /** Least ratio, the peer's time / heed's: to the fastest peer, to eager and to compiled PyTorch. */
  best?: number;
  eager?: number;
  compiled?: number;
  /** Least share of the machine's peak; see `Case.bound`. */
  peak?: number;
  /** Most memory, as a share of eager PyTorch's. */
  memory?: number;
  /** Least operations per second. */
  rate?: number;
  /** Least ratio to heed itself on one thread. */
  scaling?: number;
}

/** One thing to measure, and how a peer measures the same. */
export interface Case extends Setting {
  /** "gemm", "attention", …: what `--only` picks. */
  name: string;
  /** For people: "1024×1024×1024". */
  shape: string;
  /** Shown instead of the dtype. */
  format?: string;
  work: Work;
  /** What limits it, where that makes sense to compare with: the rate is shown as a share of that peak. */
  bound?: "compute" | "memory";
  goals?: Goals;
  /** What the peers get, and its `name` picks the function. */
  peer: Record<string, number | string>;
  /** Which peers have the case; all that know its name unless given. */
  peers?: readonly string[];
  /** Which memory is shown: of all that the case makes, or what a run takes beside what was prepared. */
  memory?: "whole" | "step";
  /** Whether it is also timed on one thread. */
  scaling?: boolean;
  /** Writes what peers read. */
  files?: () => Promise<void>;
  prepare(): Prepared | Promise<Prepared>;
}

export interface Prepared {
  /**
   * Enqueues one run. A run that reads results, and so waits itself, returns a promise; its value, where there is one,
   * are the milliseconds that count.
   */
  run: () => unknown;
  /** Runs untimed before each run. */
  before?: () => void;
  /** Throws if the result is wrong. Called before anything is timed. */
  verify: () => Promise<void>;
  /** Throws if what a peer made of the case is wrong. */
  verifyPeer?: (result: number[]) => Promise<void>;
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
