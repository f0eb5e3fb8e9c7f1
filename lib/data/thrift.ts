// Reads structs of Thrift's compact protocol, in which Parquet describes its contents. Fields have numbers in place of
// names. A list may not claim more elements than bytes follow, so that what is read is no larger than the bytes.

/** Struct: its fields by their numbers. Integers of 64 bits are rounded to JavaScript's; texts and bytes are left out. */
export type ThriftStruct = Map<number, ThriftValue>;
export type ThriftValue = number | boolean | null | ThriftStruct | ThriftValue[];

const types = { stop: 0, true: 1, false: 2, byte: 3, i16: 4, i32: 5, i64: 6, double: 7, binary: 8, list: 9, set: 10, struct: 12 }; // prettier-ignore
/** Largest number of structs and lists within each other. */
const mostDepth = 64;

/**
 * Reads the struct at the beginning of the bytes, and returns it with the number of its bytes. Returns null if it goes on
 * after them.
 *
 * @throws Error if the bytes are no struct.
 */
export function readThrift(bytes: Uint8Array): { struct: ThriftStruct; length: number } | null {
  const reader = new Reader(bytes);
  try {
    const struct = reader.struct(0);
    return { struct, length: reader.at };
  } catch (error) {
    if (error instanceof EndOfBytes) return null;
    throw error;
  }
}

class EndOfBytes extends Error {}

class Reader {
  at = 0;

  constructor(private readonly bytes: Uint8Array) {}

  struct(depth: number): ThriftStruct {
    if (depth > mostDepth) throw new Error("structs within structs, too deep");
    const fields: ThriftStruct = new Map();
    for (let id = 0; ;) {
      const head = this.#byte();
      const type = head & 15;
      if (type === types.stop) return fields;
      const delta = head >> 4;
      id = delta > 0 ? id + delta : this.#zigzag();
      fields.set(id, this.#value(type, depth, false));
    }
  }

  #value(type: number, depth: number, inList: boolean): ThriftValue {
    switch (type) {
      case types.true:
      case types.false:
        // In a list, a truth value is a byte of its own.
        return inList ? this.#byte() === types.true : type === types.true;
      case types.byte:
        return this.#byte();
      case types.i16:
      case types.i32:
      case types.i64:
        return this.#zigzag();
      case types.double:
        this.#skip(8);
        return null;
      case types.binary:
        this.#skip(this.#varint());
        return null;
      case types.list:
      case types.set:
        return this.#list(depth + 1);
      case types.struct:
        return this.struct(depth + 1);
      default:
        throw new Error(`a value of the unknown type ${type}`);
    }
  }

  #list(depth: number): ThriftValue[] {
    if (depth > mostDepth) throw new Error("lists within lists, too deep");
    const head = this.#byte();
    const count = head >> 4 === 15 ? this.#varint() : head >> 4;
    const left = this.bytes.length - this.at;
    if (count > left) throw new Error(`a list of ${count} elements in ${left} bytes`);
    const values: ThriftValue[] = [];
    for (let i = 0; i < count; i++) values.push(this.#value(head & 15, depth, true));
    return values;
  }

  #byte(): number {
    if (this.at >= this.bytes.length) throw new EndOfBytes("the bytes end within a struct");
    return this.bytes[this.at++]!;
  }

  #skip(count: number): void {
    if (count > this.bytes.length - this.at) throw new EndOfBytes("the bytes end within a struct");
    this.at += count;
  }

  #varint(): number {
    let value = 0;
    for (let factor = 1; factor < 2 ** 70; factor *= 128) {
      const byte = this.#byte();
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
    throw new Error("an integer of more than 64 bits");
  }

  #zigzag(): number {
    const value = this.#varint();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }
}
