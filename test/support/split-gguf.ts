/** Splits a GGUF file into parts in the format of llama.cpp's gguf-split, and may replace tensors on the way. */
import { readFileSync, writeFileSync } from "node:fs";
import { readGguf } from "../../lib/formats/gguf.js";
import { ggmlTypes } from "../../lib/formats/gguf-blocks.js";

const u32 = (value: number): Buffer => Buffer.from(Uint32Array.of(value).buffer);
const u64 = (value: number): Buffer => Buffer.from(BigUint64Array.of(BigInt(value)).buffer);
const text = (value: string): Buffer => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);
/** Returns a key of type u16 (2) or i32 (5). */
const key = (name: string, type: 2 | 5, value: number): Buffer =>
  Buffer.concat([text(name), u32(type), u32(value).subarray(0, type === 2 ? 2 : 4)]);
const padding = (length: number): Buffer => Buffer.alloc(-length & 31);

/**
 * Writes name-00001-of-0000N.gguf and so on, where `name` is the path without its ending, and returns their paths.
 * Tensors of `replaced` get another type, by its number, and other bytes.
 */
export async function splitGguf(
  file: string,
  name: string,
  parts: number,
  replaced: ReadonlyMap<string, { type: number; bytes: Uint8Array }> = new Map(),
): Promise<string[]> {
  const bytes = readFileSync(file);
  await using whole = await readGguf(file);
  const tensors = [...whole.tensors];
  // Keys and values lie between the counts and the description of the first tensor.
  const metadata = bytes.subarray(24, bytes.indexOf(text(tensors[0]![0])));
  const count = Number(bytes.readBigUInt64LE(16));
  const paths: string[] = [];
  for (let part = 0; part < parts; part++) {
    const mine = tensors.filter((_, i) => i % parts === part);
    const data: Buffer[] = [];
    let offset = 0;
    const entries = mine.map(([tensor, { type, shape, byteOffset, byteLength }]) => {
      const own = replaced.get(tensor);
      const number = own?.type ?? [...ggmlTypes].find(([, entry]) => entry === type)![0];
      const stored = own?.bytes ?? bytes.subarray(byteOffset, byteOffset + byteLength);
      const entry = [text(tensor), u32(shape.length), ...[...shape].reverse().map(u64), u32(number), u64(offset)];
      data.push(Buffer.from(stored), padding(stored.length));
      offset += stored.length + padding(stored.length).length;
      return Buffer.concat(entry);
    });
    const header = Buffer.concat([
      ...[bytes.subarray(0, 8), u64(mine.length), u64(3 + (part === 0 ? count : 0))],
      ...(part === 0 ? [metadata] : []),
      ...[key("split.no", 2, part), key("split.count", 2, parts), key("split.tensors.count", 5, tensors.length)],
      ...entries,
    ]);
    const number = (n: number): string => String(n).padStart(5, "0");
    const path = `${name}-${number(part + 1)}-of-${number(parts)}.gguf`;
    writeFileSync(path, Buffer.concat([header, padding(header.length), ...data]));
    paths.push(path);
  }
  return paths;
}
