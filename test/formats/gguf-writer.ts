/** Writes valid and invalid GGUF files from the format's description. */

export interface MetadataInput {
  type: number;
  bytes: Uint8Array;
}

export interface GgufInput {
  version?: number;
  metadata?: [string, MetadataInput][];
  tensors?: { name: string; type: number; sizes: number[]; bytes: Uint8Array; offset?: number }[];
}

function packed(length: number, write: (view: DataView) => void): Buffer {
  const bytes = Buffer.alloc(length);
  write(new DataView(bytes.buffer, bytes.byteOffset, length));
  return bytes;
}

const u32 = (value: number) => packed(4, (view) => view.setUint32(0, value, true));
const u64 = (value: number | bigint) => packed(8, (view) => view.setBigUint64(0, BigInt(value), true));
const string = (value: string) => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);

export const text = (value: string): MetadataInput => ({ type: 8, bytes: string(value) });

export function typed(type: number, value: number | bigint): MetadataInput {
  const write: Record<number, [number, (view: DataView) => void]> = {
    0: [1, (view) => view.setUint8(0, Number(value))],
    1: [1, (view) => view.setInt8(0, Number(value))],
    2: [2, (view) => view.setUint16(0, Number(value), true)],
    3: [2, (view) => view.setInt16(0, Number(value), true)],
    4: [4, (view) => view.setUint32(0, Number(value), true)],
    5: [4, (view) => view.setInt32(0, Number(value), true)],
    6: [4, (view) => view.setFloat32(0, Number(value), true)],
    7: [1, (view) => view.setUint8(0, Number(value))],
    10: [8, (view) => view.setBigUint64(0, BigInt(value), true)],
    11: [8, (view) => view.setBigInt64(0, BigInt(value), true)],
    12: [8, (view) => view.setFloat64(0, Number(value), true)],
  };
  return { type, bytes: packed(...write[type]!) };
}

/** Returns an array that claims to have `count` values. */
export function array(type: number, values: MetadataInput[], count = values.length): MetadataInput {
  return { type: 9, bytes: Buffer.concat([u32(type), u64(count), ...values.map(({ bytes }) => bytes)]) };
}

/** Returns an array of `count` values with these bytes. */
export function rawArray(type: number, count: number, bytes: Uint8Array): MetadataInput {
  return { type: 9, bytes: Buffer.concat([u32(type), u64(count), bytes]) };
}

export function ggufFile({ version = 3, metadata = [], tensors = [] }: GgufInput): Buffer {
  const given = metadata.find(([key]) => key === "general.alignment")?.[1].bytes;
  const alignment = given?.length === 4 ? Buffer.from(given).readUInt32LE() || 32 : 32;
  const align = (n: number) => Math.ceil(n / alignment) * alignment;
  let end = 0;
  const places = tensors.map(({ bytes, offset }) => {
    const at = offset ?? align(end);
    if (offset === undefined) end = at + bytes.length;
    return at;
  });
  const header = Buffer.concat([
    Buffer.from("GGUF"),
    u32(version),
    u64(tensors.length),
    u64(metadata.length),
    ...metadata.flatMap(([key, { type, bytes }]) => [string(key), u32(type), bytes]),
    ...tensors.flatMap(({ name, type, sizes }, i) => [
      string(name),
      u32(sizes.length),
      ...sizes.map(u64),
      u32(type),
      u64(places[i]!),
    ]),
  ]);
  const data = Buffer.alloc(
    Math.max(0, ...tensors.map(({ bytes }, i) => (places[i]! > 1e6 ? 0 : places[i]! + bytes.length))),
  );
  for (const [i, { bytes }] of tensors.entries()) if (places[i]! <= 1e6) data.set(bytes, places[i]);
  return Buffer.concat([header, Buffer.alloc(align(header.length) - header.length), data]);
}
