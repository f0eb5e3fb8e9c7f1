// How the state of an optimiser is divided between the processes of a distributed run.

/** One of the processes between which the state of an optimiser is divided. */
export interface Shard {
  /** Number of the process, counted from 0. */
  readonly rank: number;
  /** Number of processes. */
  readonly size: number;
}

/** Parameter whose state is divided. */
export interface ShardedItem {
  /** Number of elements. */
  readonly size: number;
  /** Number of state tensors of that size. */
  readonly kinds: number;
  /** True if the state may be cut anywhere, false if one process must have all of it. */
  readonly cuts: boolean;
}

/** Elements of a parameter that belong to a process, from `begin` up to `end`. */
export interface Part {
  readonly begin: number;
  readonly end: number;
}

/** Cuts are at multiples of this many elements, a few cache lines. */
const grain = 64;

/**
 * Returns for each item the part of each process, in order of the ranks, so that all have about the same memory of state.
 * Items that cannot be cut go, the largest first, to the process that has least so far (Graham 1969); the others fill up
 * what each process lacks.
 */
export function partsOf(items: readonly ShardedItem[], ranks: number): Part[][] {
  const loads = Array.from({ length: ranks }, () => 0);
  const cost = ({ size, kinds }: ShardedItem): number => size * kinds;
  const owner = new Map<number, number>();
  const whole = [...items.keys()].filter((i) => !items[i]!.cuts);
  for (const i of whole.toSorted((a, b) => cost(items[b]!) - cost(items[a]!) || a - b)) {
    const rank = loads.indexOf(Math.min(...loads));
    owner.set(i, rank);
    loads[rank]! += cost(items[i]!);
  }
  const total = items.reduce((sum, item) => sum + cost(item), 0);
  const share = total / ranks;
  let rank = 0;
  return items.map((item, i) => {
    const parts = Array.from({ length: ranks }, () => ({ begin: 0, end: 0 }));
    if (!item.cuts) {
      parts[owner.get(i)!] = { begin: 0, end: item.size };
      return parts;
    }
    // Items without state cost nothing, and all of them would go to one process.
    const kinds = Math.max(item.kinds, Number.EPSILON);
    for (let begin = 0; begin < item.size;) {
      while (rank < ranks - 1 && loads[rank]! >= share) rank++;
      const room = Math.ceil((share - loads[rank]!) / kinds / grain) * grain;
      const end = rank === ranks - 1 ? item.size : Math.min(item.size, begin + Math.max(grain, room));
      parts[rank] = { begin, end };
      loads[rank]! += (end - begin) * item.kinds;
      begin = end;
    }
    return parts;
  });
}
