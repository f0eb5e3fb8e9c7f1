// The wire format of Protocol Buffers, as far as event files need it: https://protobuf.dev/programming-guides/encoding/.
// A message is the concatenation of its fields, so that each function returns the bytes of one field.

/** Returns an integer from 0 to 2^53 as a varint: seven bits in each byte, the lowest ones first. */
function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Buffer.from([...bytes, rest]);
    bytes.push((rest % 128) | 128);
  }
}

function tag(field: number, wireType: number): Buffer {
  return varint(field * 8 + wireType);
}

/** Returns an int32, int64 or enum field; the value must not be negative. */
export function integerField(field: number, value: number): Buffer {
  return Buffer.concat([tag(field, 0), varint(value)]);
}

export function doubleField(field: number, value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(value);
  return Buffer.concat([tag(field, 1), bytes]);
}

export function floatField(field: number, value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return Buffer.concat([tag(field, 5), bytes]);
}

/** Returns a field that is a text, bytes or a message, whose parts are given. */
export function bytesField(field: number, ...parts: readonly (Uint8Array | string)[]): Buffer {
  const content = Buffer.concat(parts.map((part) => (typeof part === "string" ? Buffer.from(part) : part)));
  return Buffer.concat([tag(field, 2), varint(content.length), content]);
}

/** Returns a packed field of doubles. */
export function doublesField(field: number, values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(8 * values.length);
  for (const [i, value] of values.entries()) bytes.writeDoubleLE(value, 8 * i);
  return bytesField(field, bytes);
}
