/** Writes files of CTranslate2, binary version 2, by the description in lib/formats/ctranslate2.ts alone. */
export interface Variable {
  name: string;
  shape: number[];
  values: ArrayLike<number>;
}

export function u32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  for (const [i, value] of values.entries()) bytes.writeUInt32LE(value, 4 * i);
  return bytes;
}

export function string(text: string): Buffer {
  const bytes = Buffer.from(`${text}\0`);
  const length = Buffer.alloc(2);
  length.writeUInt16LE(bytes.length);
  return Buffer.concat([length, bytes]);
}

export function variable({ name, shape, values }: Variable, { itemBytes = 4, items = values.length } = {}): Buffer {
  return Buffer.concat([
    string(name),
    Buffer.of(shape.length),
    u32(...shape),
    Buffer.of(itemBytes),
    u32(items),
    itemBytes === 4 ? Buffer.from(Float32Array.from(values).buffer) : Buffer.alloc(itemBytes * values.length, 7),
  ]);
}

export function modelFile(
  variables: readonly Buffer[],
  { version = 2, spec = "TransformerBase", count = NaN } = {},
): Buffer {
  return Buffer.concat([u32(version), string(spec), u32(2, count || variables.length), ...variables]);
}
