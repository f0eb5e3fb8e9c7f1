import type { FloatDType } from "heed";

/** Device and dtype that a case runs on. */
export interface Setting {
  /** Name of the device, such as "cpu" or "cuda:0". */
  device: string;
  dtype: FloatDType;
}

/** Amount of work of one run. The first field that is given, from the top, makes the rate that is shown. */
export interface Work {
  tokens?: number;
  operations?: number;
  flops?: number;
  /** Least number of bytes that must be read and written. */
  bytes?: number;
}

/** Goals of a row. */
export interface Goals {
  /** Least time of the fastest peer, divided by heed's. */
  best?: number;
  /** Least time of eager PyTorch, divided by heed's. */
  eager?: number;
  /** Least time of compiled PyTorch, divided by heed's. */
  compiled?: number;
  /** Least share of the machine's peak; see `Case.bound`. */
  peak?: number;
  /** Largest share of eager PyTorch's memory. */
  memory?: number;
  /** Least number of operations per second. */
  rate?: number;
  /** Least time of heed on one thread, divided by its time on all threads. */
  scaling?: number;
}

/** A case to measure, with what a peer needs to measure the same. */
export interface Case extends Setting {
  /** Name by which `--only` chooses cases, such as "gemm". */
  name: string;
  /** Shape as it is shown: "1024×1024×1024". */
  shape: string;
  /** Format that is shown instead of the dtype. */
  format?: string;
  work: Work;
  /** Peak of the machine that limits the case, if that makes sense. The rate is shown as a share of it. */
  bound?: "compute" | "memory";
  goals?: Goals;
  /** Arguments that the peers get; `name` chooses their function. */
  peer: Record<string, number | string>;
  /** Names of the peers that run the case. @default all that know its name */
  peers?: readonly string[];
  /** Memory that is shown: "whole" is that of everything the case makes, "step" that of a run beside what was prepared. */
  memory?: "whole" | "step";
  /** True if the case is also timed on one thread. */
  scaling?: boolean;
  /** Writes the files that peers read. */
  files?: () => Promise<void>;
  prepare(): Prepared | Promise<Prepared>;
}

/** A case that is ready to run. */
export interface Prepared {
  /**
   * Enqueues one run. A run that reads results, and so waits itself, returns a promise. If the promise has a number, it is
   * the milliseconds that count.
   */
  run: () => unknown;
  /** Is called before each run and not timed. */
  before?: () => void;
  /** Throws if the result is wrong. It is called before anything is timed. */
  verify: () => Promise<void>;
  /** Throws if a peer's result of the case is wrong. */
  verifyPeer?: (result: number[]) => Promise<void>;
  dispose(): void;
}

/** Largest relative change that rounding to a dtype may cause, with room for sums. */
export const tolerances: Record<FloatDType, number> = { f32: 1e-4, bf16: 2 ** -6, f16: 2 ** -9 };

/** Bytes of a number of each dtype. */
export const bytesOf: Record<FloatDType, number> = { f32: 4, bf16: 2, f16: 2 };

/** Throws unless the two values agree to the tolerance, which is relative to the larger of |expected| and scale. */
export function expectClose(what: string, got: number, expected: number, tolerance: number, scale = 1): void {
  if (!(Math.abs(got - expected) <= tolerance * Math.max(scale, Math.abs(expected))))
    throw new Error(`${what}: expected ${expected}, got ${got}`);
}
