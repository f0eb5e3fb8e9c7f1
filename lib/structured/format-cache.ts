// Formats are read one after another, in turns of some milliseconds, and kept for further texts: as long as requests use
// them, and then as long as there is room. All that are in memory have a limit together, with which automata come to at
// most 64 MiB.
import { HeedError } from "../util/errors.js";
import { inTurns, type Steps } from "../util/turns.js";
import { partsWithin } from "./analysis.js";
import { automata } from "./automaton-memory.js";
import { digestOf } from "./digest.js";
import type { Expression } from "./expression.js";
import { formatExpression } from "./format-expression.js";
import type { OutputFormat } from "./output-format.js";
import { withinLimit } from "./work.js";

const MiB = 2 ** 20;
/** Largest number of formats that are kept while no request uses them, and of their bytes together. */
const mostUnused = 64;
const mostUnusedBytes = 12 * MiB;
/** Bytes of all formats that are in memory: those that are kept or used, and those to which automata refer. */
const mostBytes = 24 * MiB;
/** Bytes of a part of an expression, and of a step of reading it: what is not made of parts, such as the states of a text. */
const partBytes = 96;
const stepBytes = 16;

/** A format that has been read. */
interface Kept {
  readonly root: Expression;
  readonly bytes: number;
  /** Number of requests that use it. */
  uses: number;
}

/** Formats by the digests of their keys, the latest ones last. */
const formats = new Map<string, Kept>();
/** Bytes of each format that is in memory. */
const sizes = new WeakMap<Expression, number>();

/** Resolves when the formats before this one have been read: they would need their memory at the same time. */
let before: Promise<unknown> = Promise.resolve();

/** A format that a request uses until it disposes it. */
export class UsedFormat implements Disposable {
  #kept: Kept | null;

  /** @internal */
  constructor(kept: Kept) {
    kept.uses++;
    this.#kept = kept;
    this.root = kept.root;
  }

  /** The texts of the format. */
  readonly root: Expression;

  /** Says that the request has ended. */
  [Symbol.dispose](): void {
    if (!this.#kept) return;
    this.#kept.uses--;
    this.#kept = null;
    dropUnused();
  }
}

/**
 * Resolves to the texts of a format, which are read once. The caller disposes them.
 *
 * @throws ERR_ARGUMENT if the format is invalid or not supported; the message names the place.
 * @throws ERR_BUSY if the formats of the requests that run leave no room for it.
 * @throws the signal's reason if the signal aborts before the format is read.
 */
export function readFormat(format: OutputFormat, signal?: AbortSignal | null): Promise<UsedFormat> {
  return remembered(format, () => formatExpression(format), signal);
}

/**
 * Resolves to what was made for an equal key before, or makes it within the limit of work. The latest ones are kept. It
 * throws what `readFormat` throws.
 */
export async function remembered(
  key: unknown,
  make: () => Steps<Expression>,
  signal?: AbortSignal | null,
): Promise<UsedFormat> {
  const { result: digest } = await inTurns(withinLimit(digestOf(key)));
  const known = formats.get(digest);
  if (known) return use(digest, known);
  const made = before.then(async () => {
    signal?.throwIfAborted();
    // Another request may have asked for the same.
    return use(digest, formats.get(digest) ?? (await inTurns(read(make))));
  });
  before = made.catch(() => undefined);
  return made;
}

function* read(make: () => Steps<Expression>): Steps<Kept> {
  const { result: root, work } = yield* withinLimit(make());
  const bytes = partBytes * (yield* partsWithin(root)) + stepBytes * work;
  if (bytes > mostBytes)
    throw new HeedError(
      "ERR_ARGUMENT",
      `format: expected one that takes at most ${mostBytes / MiB} MiB, got one that takes ${Math.ceil(bytes / MiB)}`,
    );
  sizes.set(root, bytes);
  return { root, bytes, uses: 0 };
}

function use(digest: string, kept: Kept): UsedFormat {
  formats.delete(digest);
  formats.set(digest, kept);
  const used = new UsedFormat(kept);
  try {
    makeRoom();
    return used;
  } catch (cause) {
    used[Symbol.dispose]();
    formats.delete(digest);
    throw cause;
  }
}

/** Returns the formats that no request uses, the oldest first. */
function unused(): [digest: string, kept: Kept][] {
  return [...formats].filter(([, { uses }]) => uses === 0);
}

/** Drops the oldest unused formats until those that are left are few, and not large. */
function dropUnused(): void {
  const all = unused();
  let total = all.reduce((sum, [, { bytes }]) => sum + bytes, 0);
  for (const [i, [digest, { bytes }]] of all.entries()) {
    if (all.length - i <= mostUnused && total <= mostUnusedBytes) return;
    formats.delete(digest);
    total -= bytes;
  }
}

/**
 * Makes room for the latest format: automata forget formats that no request uses, and unused ones are dropped.
 *
 * @throws ERR_BUSY if requests use all of the room.
 */
function makeRoom(): void {
  dropUnused();
  for (;;) {
    const kept = new Set([...formats.values()].map(({ root }) => root));
    const referred = automata().map((automaton) => ({
      automaton,
      // Formats that only the states of the automaton keep in memory.
      own: [...automaton.formats].filter((root) => !kept.has(root)),
    }));
    const all = new Set([...kept, ...referred.flatMap(({ own }) => own)]);
    if (bytesOf(all) <= mostBytes) return;
    const [largest] = referred.sort((a, b) => bytesOf(b.own) - bytesOf(a.own));
    const [oldest] = unused();
    if (largest && largest.own.length > 0) largest.automaton.forget();
    else if (oldest) formats.delete(oldest[0]);
    else
      throw new HeedError(
        "ERR_BUSY",
        `format: expected room for it within the ${mostBytes / MiB} MiB of all formats, got requests whose formats take ` +
          `${(bytesOf(kept) / MiB).toFixed(1)} MiB with it; try again when some of them have ended`,
      );
  }
}

function bytesOf(roots: Iterable<Expression>): number {
  let total = 0;
  for (const root of roots) total += sizes.get(root) ?? 0;
  return total;
}
