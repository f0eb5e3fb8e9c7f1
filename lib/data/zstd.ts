// Decompresses zstd (RFC 8878) block by block, where Node.js has no decompressor of its own. A block contains at most
// 128 KiB, however few bytes describe it, and is decompressed only when the blocks before it have been read: a small file
// of gigabytes never takes more memory than its window, which has a limit too.
import { Decompress } from "fzstd";
import { pauseIfLong } from "../util/turns.js";

/** Largest window in bytes, as that of the zstd program unless it is told otherwise. */
export const mostWindow = 2 ** 27;
/** Largest number of bytes in a block. */
export const mostBlock = 2 ** 17;

const [zstdMagic, skippableMagic] = [0xfd2f_b528, 0x184d_2a50];
const [raw, run, compressed] = [0, 1, 2];

/**
 * Yields what a stream of zstd contains, in pieces of at most 128 KiB.
 *
 * @throws Error if the stream is damaged, ends early or needs a larger window.
 */
export async function* unzstd(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, undefined> {
  const bytes = new Bytes(source);
  try {
    for (;;) {
      const start = await bytes.take(4, { optional: true });
      if (start === null) return;
      const magic = start.readUInt32LE();
      if (magic === zstdMagic) yield* frame(bytes, start);
      else if ((magic & 0xffff_fff0) >>> 0 === skippableMagic) await bytes.skip((await bytes.take(4)).readUInt32LE());
      else throw new Error("invalid zstd data");
    }
  } finally {
    await bytes.close();
  }
}

/** Returns the size of the window that a frame asks for, or null if the bytes do not begin with a frame. */
export function windowOf(bytes: Uint8Array): number | null {
  const header = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (header.length < 6 || header.readUInt32LE() !== zstdMagic) return null;
  const flags = header[4]!;
  const length = headerLength(flags);
  return header.length < 5 + length ? null : windowIn(flags, header.subarray(5, 5 + length));
}

/** Yields what a frame contains, whose first four bytes have been read. */
async function* frame(bytes: Bytes, start: Buffer): AsyncGenerator<Buffer, void, undefined> {
  const { header, window, hasChecksum } = await frameHeader(bytes);
  if (window > mostWindow) throw new Error(`window of ${window} bytes, the largest that is read has ${mostWindow}`);
  let ready: Uint8Array[] = [];
  const stream = new Decompress((piece) => ready.push(piece));
  stream.push(Buffer.concat([start, header]));
  for (let last = false; !last;) {
    // Blocks that are in memory already would be decompressed one after the other without another turn of the loop.
    await pauseIfLong();
    const block = await bytes.take(3);
    const described = block.readUIntLE(0, 3);
    last = (described & 1) === 1;
    const type = (described >> 1) & 3;
    const size = described >> 3;
    if (type !== raw && type !== run && type !== compressed) throw new Error("invalid block type");
    if (size > Math.min(window, mostBlock)) throw new Error(`block of ${size} bytes`);
    const content = await bytes.take(type === run ? 1 : size);
    const end = last && hasChecksum ? await bytes.take(4) : Buffer.alloc(0);
    stream.push(Buffer.concat([block, content, end]), last);
    for (const piece of ready)
      if (piece.length > 0) yield Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
    ready = [];
  }
}

/** Reads the rest of a frame's header, after its first four bytes. */
async function frameHeader(bytes: Bytes): Promise<{ header: Buffer; window: number; hasChecksum: boolean }> {
  const first = await bytes.take(1);
  const flags = first[0]!;
  const rest = await bytes.take(headerLength(flags));
  return {
    header: Buffer.concat([first, rest]),
    window: windowIn(flags, rest),
    hasChecksum: ((flags >> 2) & 1) === 1,
  };
}

/** Returns the numbers of bytes of a header's fields: the window, the dictionary, and the size of the content. */
function fieldsOf(flags: number): { window: number; dictionary: number; size: number } {
  const isSingle = (flags >> 5) & 1;
  const sizeFlag = flags >> 6;
  return { window: 1 - isSingle, dictionary: [0, 1, 2, 4][flags & 3]!, size: sizeFlag > 0 ? 1 << sizeFlag : isSingle };
}

/** Returns the number of bytes of a header after its flags. */
function headerLength(flags: number): number {
  const { window, dictionary, size } = fieldsOf(flags);
  return window + dictionary + size;
}

/** Returns the size of a frame's window. `rest` has the bytes of its header after the flags. */
function windowIn(flags: number, rest: Buffer): number {
  const { window, dictionary, size } = fieldsOf(flags);
  if (window > 0) {
    const base = 2 ** (10 + (rest[0]! >> 3));
    return base + (base / 8) * (rest[0]! & 7);
  }
  // A frame without a window of its own has one of its whole content.
  const content = size === 8 ? Number(rest.readBigUInt64LE(dictionary)) : rest.readUIntLE(dictionary, size);
  return content + (size === 2 ? 256 : 0);
}

/** Bytes of a stream, which are taken in portions of any size. */
class Bytes {
  #rest: Buffer = Buffer.alloc(0);
  readonly #source: AsyncIterator<Buffer>;

  constructor(source: AsyncIterable<Buffer>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** Takes `count` bytes. If `optional`, returns null if there are none. */
  take(count: number): Promise<Buffer>;
  take(count: number, options: { optional: true }): Promise<Buffer | null>;
  async take(count: number, { optional = false } = {}): Promise<Buffer | null> {
    const pieces = [this.#rest];
    let length = this.#rest.length;
    while (length < count) {
      const step: IteratorResult<Buffer, unknown> = await this.#source.next();
      if (step.done && length === 0 && optional) return null;
      if (step.done) throw new Error("unexpected end of file");
      pieces.push(step.value);
      length += step.value.length;
    }
    const all = pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces);
    this.#rest = all.subarray(count);
    return all.subarray(0, count);
  }

  /** Leaves `count` bytes out. */
  async skip(count: number): Promise<void> {
    for (let left = count; left > 0;) left -= (await this.take(Math.min(left, Math.max(1, this.#rest.length)))).length;
  }

  async close(): Promise<void> {
    await this.#source.return?.();
  }
}
