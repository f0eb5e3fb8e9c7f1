/** Writes CTranslate2 files of binary versions 2 and 4, only from the description in lib/formats/ctranslate2.ts. */
import { bitsOf } from "../../lib/core/dtype.js";

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

/** Number of each dtype from version 4 on, its bytes, and a function that turns numbers into its items. */
const dtypes = {
  f32: { id: 0, bytes: 4, items: (values: number[]) => Float32Array.from(values) },
  int8: { id: 1, bytes: 1, items: (values: number[]) => Int8Array.from(values) },
  int16: { id: 2, bytes: 2, items: (values: number[]) => Int16Array.from(values) },
  int32: { id: 3, bytes: 4, items: (values: number[]) => Int32Array.from(values) },
  f16: { id: 4, bytes: 2, items: (values: number[]) => bitsOf("f16", Float32Array.from(values)) },
  bf16: { id: 5, bytes: 2, items: (values: number[]) => bitsOf("bf16", Float32Array.from(values)) },
};

/** Returns a variable of a dtype in the format of version 4, or of version 2 if `typed` is false. */
export function typedVariable(dtype: keyof typeof dtypes, { name, shape, values }: Variable, typed = true): Buffer {
  const { id, bytes, items } = dtypes[dtype];
  const head = [string(name), Buffer.of(shape.length), u32(...shape), Buffer.of(typed ? id : bytes)];
  const data = items(Array.from(values));
  return Buffer.concat([...head, u32(typed ? data.byteLength : data.length), Buffer.from(data.buffer)]);
}

/**
 * Quantises a matrix to int8 with a scale for each row, or to int16 with one scale. Returns its variable and the
 * variable of its scales.
 */
export function quantizedVariables(dtype: "int8" | "int16", variable: Variable, typed = true): Buffer[] {
  const { name, shape, values } = variable;
  const rows = dtype === "int8" ? shape[0]! : 1;
  const width = values.length / rows;
  const scales = Float32Array.from({ length: rows }, (_, row) => {
    const most = Math.max(...Array.from({ length: width }, (_, i) => Math.abs(values[row * width + i]!)));
    return (dtype === "int8" ? 127 : 1024) / (most || 1);
  });
  const codes = Array.from(values, (value, i) => Math.round(value * scales[Math.floor(i / width)]!));
  return [
    typedVariable(dtype, { name, shape, values: codes }, typed),
    typedVariable("f32", { name: `${name}_scale`, shape: dtype === "int8" ? [rows] : [], values: scales }, typed),
  ];
}

export function modelFile(
  variables: readonly Buffer[],
  { version = 2, spec = "TransformerBase", count = NaN } = {},
): Buffer {
  return Buffer.concat([u32(version), string(spec), u32(2, count || variables.length), ...variables]);
}
