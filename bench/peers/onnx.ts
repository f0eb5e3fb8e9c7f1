// Writes the part of ONNX's file format that the benchmarks need (onnx.proto of github.com/onnx/onnx).

export type OnnxType = "float32" | "int32" | "int64";
export type Attribute = number | string | readonly number[] | { float: number };
type Dimension = number | string;

const elementTypes: Record<OnnxType, number> = { float32: 1, int32: 6, int64: 7 };

function varint(value: number | bigint): Buffer {
  let rest = BigInt.asUintN(64, BigInt(value));
  const bytes: number[] = [];
  do {
    const low = Number(rest & 127n);
    rest >>= 7n;
    bytes.push(rest ? low | 128 : low);
  } while (rest);
  return Buffer.from(bytes);
}

/** Encodes an integer as a field of a message; the next two encode bytes with their length (a text, a message) and a float. */
const integer = (field: number, value: number | bigint): Buffer => Buffer.concat([varint(field << 3), varint(value)]);
const bytes = (field: number, value: Uint8Array | string): Buffer => {
  const content = typeof value === "string" ? Buffer.from(value) : value;
  return Buffer.concat([varint((field << 3) | 2), varint(content.length), content]);
};
const float = (field: number, value: number): Buffer => {
  const content = Buffer.alloc(4);
  content.writeFloatLE(value);
  return Buffer.concat([varint((field << 3) | 5), content]);
};

function attribute(name: string, value: Attribute): Buffer {
  const parts = [bytes(1, name)];
  if (typeof value === "number") parts.push(integer(3, value), integer(20, 2));
  else if (typeof value === "string") parts.push(bytes(4, value), integer(20, 3));
  else if ("float" in value) parts.push(float(2, value.float), integer(20, 1));
  else parts.push(...value.map((item) => integer(8, item)), integer(20, 7));
  return Buffer.concat(parts);
}

function valueInfo(name: string, type: OnnxType, shape: readonly Dimension[]): Buffer {
  const dimensions = shape.map((size) => bytes(1, typeof size === "number" ? integer(1, size) : bytes(2, size)));
  const tensorType = Buffer.concat([integer(1, elementTypes[type]), bytes(2, Buffer.concat(dimensions))]);
  return Buffer.concat([bytes(1, name), bytes(2, bytes(1, tensorType))]);
}

/** A graph, which is built from its inputs to its outputs. Tensors have names. */
export class OnnxGraph {
  readonly #nodes: Buffer[] = [];
  readonly #constants: Buffer[] = [];
  readonly #inputs: Buffer[] = [];
  readonly #outputs: Buffer[] = [];
  #count = 0;

  input(name: string, type: OnnxType, shape: readonly Dimension[]): string {
    this.#inputs.push(bytes(11, valueInfo(name, type, shape)));
    return name;
  }

  output(name: string, type: OnnxType, shape: readonly Dimension[]): void {
    this.#outputs.push(bytes(12, valueInfo(name, type, shape)));
  }

  constant(type: OnnxType, shape: readonly number[], values: ArrayBufferView): string {
    const name = `c${this.#count++}`;
    const raw = Buffer.from(values.buffer, values.byteOffset, values.byteLength);
    const tensor = [...shape.map((size) => integer(1, size)), integer(2, elementTypes[type]), bytes(8, name)];
    this.#constants.push(bytes(5, Buffer.concat([...tensor, bytes(9, raw)])));
    return name;
  }

  /** Adds a node. An input "" is left out. */
  nodes(
    type: string,
    inputs: readonly string[],
    outputs: readonly string[],
    attributes: Record<string, Attribute> = {},
    domain = "",
  ): void {
    const parts = [
      ...inputs.map((name) => bytes(1, name)),
      ...outputs.map((name) => bytes(2, name)),
      bytes(3, `n${this.#count++}`),
      bytes(4, type),
      ...Object.entries(attributes).map(([name, value]) => bytes(5, attribute(name, value))),
      bytes(7, domain),
    ];
    this.#nodes.push(bytes(1, Buffer.concat(parts)));
  }

  /** Adds a node of one output and returns the name of the output. */
  node(type: string, inputs: readonly string[], attributes: Record<string, Attribute> = {}, domain = ""): string {
    const name = `t${this.#count++}`;
    this.nodes(type, inputs, [name], attributes, domain);
    return name;
  }

  /** Returns the bytes of the file, which uses ONNX's own operators of version 20 and those of ONNX Runtime. */
  serialize(): Buffer {
    const graph = [...this.#nodes, bytes(2, "graph"), ...this.#constants, ...this.#inputs, ...this.#outputs];
    const operators = (domain: string, version: number): Buffer =>
      bytes(8, Buffer.concat([bytes(1, domain), integer(2, version)]));
    const versions = [operators("", 20), operators("com.microsoft", 1)];
    return Buffer.concat([integer(1, 9), bytes(2, "heed"), bytes(7, Buffer.concat(graph)), ...versions]);
  }
}
