// What a process of a distributed run keeps and updates of each parameter.
import type { Entry } from "./entry.js";
import { type Part, partsOf, type Shard } from "./shards.js";

/** Facts that decide how a parameter is divided. */
interface Division {
  /** Number of its state tensors. */
  readonly kinds: number;
  /** True if its update may be cut anywhere. */
  readonly cuts: boolean;
}

/** @internal Divides parameters between the processes of a run. */
export function divide(entries: readonly Entry[], shard: Shard, of: (entry: Entry) => Division): void {
  // Parameters that are frozen have no state, and may have one later.
  for (const frozen of [false, true]) {
    const some = entries.filter(({ parameter }) => parameter.isFrozen === frozen);
    const items = some.map((entry) => ({ size: entry.parameter.size, ...of(entry) }));
    for (const [i, parts] of partsOf(items, shard.size).entries()) some[i]!.parts = parts;
  }
}

/** @internal Returns this process' part of a parameter; null for the whole of it. */
export function partOf({ parts, parameter }: Entry, shard: Shard | null): Part | null {
  if (!parts || !shard) return null;
  const part = parts[shard.rank]!;
  return part.end - part.begin === parameter.size ? null : part;
}

/** @internal Returns an entry as far as this process updates it, or null if it does not. A part is a view. */
export function ownPart(entry: Entry, shard: Shard): Entry | null {
  const part = partOf(entry, shard);
  if (!part) return entry;
  const size = part.end - part.begin;
  if (size === 0) return null;
  const { parameter } = entry;
  const own = parameter.viewAs([size], [1], part.begin, false);
  const gradient = parameter.grad!.toContiguous();
  own.grad = gradient.viewAs([size], [1], part.begin, false);
  gradient.dispose();
  return { ...entry, parameter: own };
}

/** @internal Returns the elements of a part. */
export function sliced(values: ArrayLike<number>, { begin, end }: Part): ArrayLike<number> {
  return values instanceof Float32Array ? values.subarray(begin, end) : Array.from(values).slice(begin, end);
}
