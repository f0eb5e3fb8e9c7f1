// Says when the gradient of a leaf is final during a backward pass, so that it can be sent to other processes or used for
// an update while the pass goes on.
import type { Tensor } from "./tensor.js";

/** A step of the tape (autograd.ts), as far as it counts here. */
interface Step {
  readonly targets: readonly ({ readonly leaf: Tensor | null } | null)[];
  /** Leaves that get gradients in a backward pass within the step. */
  readonly inner: readonly Tensor[];
  /** Saved tensors. */
  readonly kept: Readonly<Record<string, Tensor | null>>;
  /** Steps that recompute the other tensors that this one reads. */
  readonly sources: readonly (readonly [string, Pick<Step, "kept">])[];
}

let onFinal: ((leaf: Tensor) => void) | null = null;

/**
 * @internal Runs `body`, whose `backward()` calls `listener` with each leaf as soon as no later step of the pass adds to
 * its gradient or reads its numbers. While the pass goes on, the gradient can then be used and the leaf be overwritten.
 */
export function withFinalGradients<T>(listener: (leaf: Tensor) => void, body: () => T): T {
  const before = onFinal;
  onFinal = listener;
  try {
    return body();
  } finally {
    onFinal = before;
  }
}

/** @internal Counts for each leaf the steps of a backward pass that have yet to add to its gradient or to read its numbers. */
export class Finals {
  readonly #left = new Map<Tensor, number>();
  readonly #leaves = new Map<Step, readonly Tensor[]>();

  private constructor(
    steps: readonly Step[],
    private readonly listener: (leaf: Tensor) => void,
  ) {
    for (const step of steps) this.#leaves.set(step, [...leavesIn(step)]);
    // No two storages have the same version, so that it tells which saved tensors share a leaf's memory.
    const stored = new Map<number, Set<Tensor>>();
    for (const leaf of [...this.#leaves.values()].flat()) {
      if (leaf.disposed) continue;
      const sharing = stored.get(leaf.version);
      if (sharing) sharing.add(leaf);
      else stored.set(leaf.version, new Set([leaf]));
    }
    for (const [step, leaves] of this.#leaves) {
      const read = [step, ...step.sources.map(([, source]) => source)].flatMap(({ kept }) => Object.values(kept));
      const all = [...leaves, ...read.flatMap((tensor) => [...((tensor && stored.get(tensor.version)) ?? [])])];
      this.#leaves.set(step, all);
      for (const leaf of all) this.#left.set(leaf, (this.#left.get(leaf) ?? 0) + 1);
    }
  }

  /** Begins a pass; null if nobody listens. Passes within this one are part of their step. */
  static begin(steps: readonly Step[]): Finals | null {
    if (!onFinal) return null;
    const finals = new Finals(steps, onFinal);
    onFinal = null;
    return finals;
  }

  passed(step: Step): void {
    for (const leaf of this.#leaves.get(step)!) {
      const left = this.#left.get(leaf)! - 1;
      this.#left.set(leaf, left);
      if (left === 0 && !leaf.disposed) this.listener(leaf);
    }
  }

  end(): void {
    onFinal = this.listener;
  }
}

/** @internal Yields the leaves that get gradients from a step. */
export function* leavesIn({ targets, inner }: Pick<Step, "targets" | "inner">): Generator<Tensor> {
  for (const target of targets) if (target?.leaf) yield target.leaf;
  yield* inner;
}
