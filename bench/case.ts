/** One thing to measure, and how a peer measures the same. */
export interface Case {
  /** "gemm", "attention", …: what `--only` picks. */
  name: string;
  /** For people: "1024×1024×1024". */
  shape: string;
  dtype: "f32";
  /** What one run does, in one of three measures. */
  work: { flops: number } | { bytes: number } | { tokens: number };
  /** The arguments the PyTorch twin (torch_peer.py) takes; its `name` picks the function. */
  peer: Record<string, number | string>;
  prepare(): Prepared;
}

export interface Prepared {
  /** Runs once and resolves when the device has finished. */
  run: () => Promise<void>;
  /** Throws if the result is wrong. Called before anything is timed. */
  verify: () => Promise<void>;
  dispose(): void;
}

/** Throws unless the two agree to the tolerance. */
export function expectClose(what: string, got: number, expected: number, tolerance: number): void {
  if (!(Math.abs(got - expected) <= tolerance * Math.max(1, Math.abs(expected))))
    throw new Error(`${what}: expected ${expected}, got ${got}`);
}
