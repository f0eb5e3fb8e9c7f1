// Counts the operations of a step and the longest chain of those that wait for each other.
import { readFileSync } from "node:fs";

/** Counts of one step's operations. */
export interface StepPath {
  /** Number of operations that are launched. */
  launches: number;
  /** Number of operations in the longest chain in which each reads what the one before it writes. */
  path: number;
  /** Number of arithmetic operations of all launches together. */
  work: number;
}

/** Parts of the addon's exports that create memory and run operations. */
export interface Exports {
  alloc(device: number, dtype: number, shape: readonly number[], released?: object): object;
  view(handle: object, shape: readonly number[], strides: readonly number[], offset: number, released?: object): object;
  upload(handle: object, data: ArrayBufferView): void;
  ops: Record<string, (...operands: unknown[]) => void>;
}

/** Elements of a tensor within its memory. */
interface View {
  memory: Memory;
  shape: readonly number[];
  strides: readonly number[];
  offset: number;
}

/** Operands of an operation by the words of ops.def. */
type Word = "in" | "out" | "inOut" | "accumulate" | "other";

/** Lengths of the chains of operations that end with the latest write to each element of a memory. */
class Memory {
  /** Length for all elements alike; null if they differ. */
  #common: number | null = 0;
  #each: Int32Array | null = null;

  constructor(readonly size: number) {}

  /** Returns the longest chain among a view's elements. */
  longest(view: View): number {
    if (this.#common !== null) return this.#common;
    let most = 0;
    forRuns(view, (start, count, stride) => {
      for (let i = 0, at = start; i < count; i++, at += stride) most = Math.max(most, this.#each![at]!);
    });
    return most;
  }

  /** Notes that an operation at the end of a chain writes a view's elements. */
  write(view: View, length: number): void {
    if (sizeOf(view.shape) === this.size) {
      this.#common = length;
      return;
    }
    this.#each ??= new Int32Array(this.size);
    if (this.#common !== null) this.#each.fill(this.#common);
    this.#common = null;
    forRuns(view, (start, count, stride) => {
      for (let i = 0, at = start; i < count; i++, at += stride) this.#each![at] = length;
    });
  }
}

/** Calls `body` with each row of a view: its first element, their number and their distance. */
function forRuns({ shape, strides, offset }: View, body: (start: number, count: number, stride: number) => void): void {
  const inner = shape.length - 1;
  const walk = (axis: number, start: number): void => {
    if (axis >= inner) {
      body(start, shape[inner] ?? 1, strides[inner] ?? 1);
      return;
    }
    // An axis of stride 0 repeats the same elements.
    const count = strides[axis] === 0 ? Math.min(1, shape[axis]!) : shape[axis]!;
    for (let i = 0; i < count; i++) walk(axis + 1, start + i * strides[axis]!);
  };
  if (sizeOf(shape) > 0) walk(0, offset);
}

const sizeOf = (shape: readonly number[]): number => shape.reduce((product, size) => product * size, 1);

/** Returns the words of each operation's operands, in order, from ops.def. */
function operandsOf(definitions: string): Map<string, { word: Word; name: string }[]> {
  const found = new Map<string, { word: Word; name: string }[]>();
  for (const [, operation, parameters] of definitions.matchAll(/^OP\((\w+), \((.*?)\)\)/gm))
    found.set(
      operation!,
      parameters!.split(", ").map((parameter) => {
        const [type, name] = parameter.split(" ") as [string, string];
        const word = type.includes("InOut")
          ? "inOut"
          : type.includes("Out")
            ? "out"
            : /In(List)?$/.test(type)
              ? "in"
              : type === "Accumulate"
                ? "accumulate"
                : "other";
        return { word, name };
      }),
    );
  return found;
}

/**
 * Recorder of launches. Tensors that a step uses must be made while it exists. It looks at the addon's exports, so it sees
 * what the device sees: which memory each operation reads and writes.
 */
export class LaunchRecorder implements Disposable {
  readonly #views = new WeakMap<object, View>();
  readonly #operands = operandsOf(readFileSync("native/core/ops.def", "utf8"));
  readonly #restore: (() => void)[] = [];
  /** Length of the longest chain so far, and at the beginning of the step that is counted. */
  #longest = 0;
  #begun = 0;
  #counted: StepPath = { launches: 0, path: 0, work: 0 };

  /** @param native the addon's exports */
  constructor(native: Exports) {
    this.#replace(native, "alloc", (original) => (device, dtype, shape, released) => {
      const handle = original(device, dtype, shape, released);
      this.#views.set(handle, { memory: new Memory(sizeOf(shape)), shape, strides: rowMajor(shape), offset: 0 });
      return handle;
    });
    this.#replace(native, "view", (original) => (base, shape, strides, offset, released) => {
      const { memory, offset: first } = this.#viewOf(base);
      const handle = original(base, shape, strides, offset, released);
      this.#views.set(handle, { memory, shape, strides, offset: first + offset });
      return handle;
    });
    this.#replace(native, "upload", (original) => (handle, data) => {
      const view = this.#viewOf(handle);
      view.memory.write(view, 0);
      original(handle, data);
    });
    for (const name of this.#operands.keys())
      this.#replace(native.ops, name, (original) => (...operands) => {
        this.#note(name, operands);
        original(...operands);
      });
  }

  /** Resolves to a recorder of heed's addon. */
  static async start(): Promise<LaunchRecorder> {
    const file = new URL("core/native.js", import.meta.resolve("heed")).href;
    return new LaunchRecorder(((await import(file)) as { native: Exports }).native);
  }

  /** Resolves to what the operations of `step` are. Its chains begin with it. */
  async count(step: () => Promise<unknown>): Promise<StepPath> {
    this.#counted = { launches: 0, path: 0, work: 0 };
    this.#begun = this.#longest;
    await step();
    return this.#counted;
  }

  [Symbol.dispose](): void {
    for (const restore of this.#restore) restore();
  }

  #replace<T, K extends keyof T>(object: T, name: K, make: (original: T[K]) => T[K]): void {
    const original = object[name];
    object[name] = make(original);
    this.#restore.push(() => (object[name] = original));
  }

  #viewOf(handle: unknown): View {
    const view = this.#views.get(handle as object);
    if (!view) throw new Error("LaunchRecorder: expected a tensor that was made after the recorder, got another one");
    return view;
  }

  #note(name: string, values: readonly unknown[]): void {
    const [read, written]: View[][] = [[], []];
    const outputs: View[][] = [];
    const operands = this.#operands.get(name)!;
    let accumulates = 0;
    for (const [i, { word }] of operands.entries()) {
      const value = values[i];
      if (word === "accumulate") {
        if (value === true) read!.push(...outputs[accumulates]!);
        accumulates++;
      }
      if (word === "accumulate" || word === "other") continue;
      const list = value === null || value === undefined ? [] : Array.isArray(value) ? value : [value];
      const views = list.map((handle) => this.#viewOf(handle));
      if (word !== "out") read!.push(...views);
      if (word !== "in") written!.push(...views);
      if (word === "out") outputs.push(views);
    }
    // What was written before the step does not make an operation of the step wait.
    const before = Math.max(this.#begun, ...read!.map((view) => view.memory.longest(view)));
    const launches = launchesOf(name, written!);
    const after = before + launches;
    for (const view of written!) view.memory.write(view, after);
    this.#longest = Math.max(this.#longest, after);
    this.#counted.launches += launches;
    this.#counted.path = Math.max(this.#counted.path, after - this.#begun);
    this.#counted.work += workOf(name, read!, written!);
  }
}

/**
 * Returns the number of launches that an operation stands for, each of which waits for the one before it. Each step of an
 * LSTM is a product and a cell; its last step backward needs no product.
 */
function launchesOf(name: string, written: readonly View[]): number {
  if (!name.startsWith("lstm_")) return 1;
  const [steps] = written[0]!.shape as [number];
  return name === "lstm_forward" ? 2 * steps : Math.max(0, 2 * steps - 1);
}

/**
 * Returns the number of arithmetic operations of a launch: two for each product and sum of matrix products and attention,
 * of which the causal mask leaves half, and one for each element of the largest operand otherwise.
 */
function workOf(name: string, read: readonly View[], written: readonly View[]): number {
  const [out] = written as [View];
  if (name === "gemm") return 2 * sizeOf(out.shape) * read[0]!.shape.at(-1)!;
  // The products of the gates [T, B, 4H] by [4H, H], and the cells.
  if (name.startsWith("lstm_")) return sizeOf(out.shape) * (out.shape[2]! / 2 + 1);
  if (name.startsWith("attention_")) {
    const forward = name === "attention_forward";
    const [q, k] = (forward ? [read[0]!, read[1]!] : [read[1]!, read[2]!]).map(({ shape }) => shape);
    return (forward ? 2 : 5) * sizeOf(q!) * k![1]!;
  }
  if (name.startsWith("embedding_")) return sizeOf((name === "embedding_forward" ? out : read[0]!).shape);
  if (/^(adamw|global_norm)$/.test(name)) return read.reduce((sum, { shape }) => sum + sizeOf(shape), 0);
  return Math.max(...[...read, ...written].map(({ shape }) => sizeOf(shape)));
}

function rowMajor(shape: readonly number[]): number[] {
  const strides = shape.map(() => 1);
  for (let axis = shape.length - 2; axis >= 0; axis--) strides[axis] = strides[axis + 1]! * shape[axis + 1]!;
  return strides;
}
