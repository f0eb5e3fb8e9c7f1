// Formats are read one after another, in turns of some milliseconds, and kept for further texts.
import { inTurns, type Steps } from "../turns.js";
import { digestOf } from "./digest.js";
import { partsWithin } from "./analysis.js";
import type { Expression } from "./expression.js";
import { formatExpression } from "./format-expression.js";
import type { OutputFormat } from "./output-format.js";
import { withinLimit } from "./work.js";

/** Largest number of formats that are kept, and of their bytes together. */
const mostFormats = 64;
const mostBytes = 12 * 2 ** 20;
/** Bytes of a part of an expression, and of a step of reading it: what is not made of parts, such as the states of a text. */
const partBytes = 96;
const stepBytes = 16;

/** A format that has been read. */
interface Kept {
  readonly root: Expression;
  readonly bytes: number;
}

/** Formats by the digests of their keys, the latest ones last. */
const formats = new Map<string, Kept>();

/** Resolves when the formats before this one have been read: they would need their memory at the same time. */
let before: Promise<unknown> = Promise.resolve();

/**
 * Resolves to the texts of a format, which are read once.
 *
 * @throws ERR_ARGUMENT if the format is invalid or not supported; the message names the place.
 * @throws the signal's reason if the signal aborts before the format is read.
 */
export function readFormat(format: OutputFormat, signal?: AbortSignal | null): Promise<Expression> {
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
): Promise<Expression> {
  const { result: digest } = await inTurns(withinLimit(digestOf(key)));
  const known = formats.get(digest);
  if (known) return keep(digest, known);
  const made = before.then(async () => {
    signal?.throwIfAborted();
    // Another request may have asked for the same.
    return keep(digest, formats.get(digest) ?? (await inTurns(read(make))));
  });
  before = made.catch(() => undefined);
  return made;
}

function* read(make: () => Steps<Expression>): Steps<Kept> {
  const { result: root, work } = yield* withinLimit(make());
  return { root, bytes: partBytes * (yield* partsWithin(root)) + stepBytes * work };
}

function keep(digest: string, kept: Kept): Expression {
  formats.delete(digest);
  formats.set(digest, kept);
  let total = 0;
  for (const { bytes } of formats.values()) total += bytes;
  for (const [oldest, { bytes }] of formats) {
    if (formats.size <= mostFormats && total <= mostBytes) break;
    formats.delete(oldest);
    total -= bytes;
  }
  return kept.root;
}
