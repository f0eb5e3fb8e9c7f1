/** Tensors over memory that belongs to others: typed arrays, addons with heed's C interface, and libraries with DLPack. */
import { markAsUntransferable } from "node:worker_threads";
import { checkBoolean, checkObject } from "../util/check.js";
import { Device } from "./device.js";
import { type DType, dtypeIndex, dtypes } from "./dtype.js";
import { describe, HeedError, oneOf } from "../util/errors.js";
import { type DescribedTensor, type DLPackTensor, native, type NativeInterface, type NativeTensor } from "./native.js";
import { checkShape, contiguousStrides, formatShape, numel, type Shape } from "./shape.js";
import { SharedHandle, Storage } from "./storage.js";
import { Tensor } from "./tensor.js";

/** Options of `fromBuffer`. */
export interface FromBufferOptions<D extends DType = DType> {
  /**
   * Element type. An ArrayBuffer, a SharedArrayBuffer, a DataView and a Uint8Array may hold any; other arrays hold what
   * their name says, and a Uint16Array the bits of bf16 or f16. @default that of the array, or "f32" for a buffer or a
   * DataView
   */
  dtype?: D;
}

/** Memory of JavaScript that a tensor can use: a buffer, or a view of one. */
export type BufferSource = ArrayBuffer | SharedArrayBuffer | ArrayBufferView;

const bytesOf: Record<DType, number> = { f32: 4, bf16: 2, f16: 2, i32: 4, u8: 1 };

/** Dtypes that the arrays of each class may hold; the first one is the default. Missing classes hold none. */
const dtypesOf: Readonly<Record<string, readonly DType[]>> = {
  ArrayBuffer: ["f32", "bf16", "f16", "i32", "u8"],
  SharedArrayBuffer: ["f32", "bf16", "f16", "i32", "u8"],
  DataView: ["f32", "bf16", "f16", "i32", "u8"],
  Uint8Array: ["u8", "f32", "bf16", "f16", "i32"],
  Uint8ClampedArray: ["u8"],
  Float32Array: ["f32"],
  Float16Array: ["f16"],
  Int32Array: ["i32"],
  Uint16Array: ["bf16", "f16"],
};

/**
 * Returns a tensor on the CPU over the memory of an array or a buffer, without a copy. What one of them writes, the other
 * reads.
 *
 * The tensor keeps the memory alive, and never frees it. You own the memory, so you have to keep to these rules:
 * - Operations run later on another thread. Before you read what operations have written, and before you write what they
 *   read, await `device("cpu").synchronize()`, or `data()` of a tensor that was computed from it.
 * - After you have written to the memory, call `markWritten(tensor)` if heed has computed something from the tensor before.
 * - An ArrayBuffer can no longer be transferred to another thread. Do not detach it otherwise: `buffer.transfer()`, or the
 *   growth of a WebAssembly memory, would give the memory away while heed uses it.
 * - The memory does not count in `device("cpu").memory()`.
 *
 * heed never copies here: if the memory does not begin at a multiple of the size of an element, the function throws.
 * `tensor()` makes a copy of any array.
 *
 * @param source the memory; a typed array that is a part of a buffer shares that part
 * @param shape shape of the result; by default it has one dimension
 *
 * @example
 * const memory = new Float32Array(6);
 * using x = fromBuffer(memory, [2, 3]);
 * memory.fill(2); // heed has not used x yet
 * await sum(x).item(); // 12
 *
 * @throws ERR_ARGUMENT if `source` is not such memory, is resizable or detached, or is not aligned to its elements;
 *   ERR_DTYPE if it does not hold the dtype; ERR_SHAPE if it has another number of bytes than the shape.
 */
export function fromBuffer(
  source: Uint8Array | Uint8ClampedArray,
  shape?: Shape,
  options?: FromBufferOptions<"u8">,
): Tensor<"u8">;
/** Returns a tensor on the CPU over the memory of an Int32Array, without a copy. */
export function fromBuffer(source: Int32Array, shape?: Shape, options?: FromBufferOptions<"i32">): Tensor<"i32">;
/** Returns a tensor on the CPU over the memory of an array or a buffer, without a copy. */
export function fromBuffer<D extends DType = "f32">(
  source: BufferSource,
  shape?: Shape,
  options?: FromBufferOptions<D>,
): Tensor<D>;
export function fromBuffer(source: BufferSource, shape?: Shape, options: FromBufferOptions = {}): Tensor {
  checkObject("fromBuffer", "options", options);
  const bytes = bytesIn(source);
  const dtype = dtypeFor(source, options.dtype);
  const size = bytesOf[dtype];
  if (bytes.byteLength % size !== 0)
    throw new HeedError(
      "ERR_SHAPE",
      `fromBuffer: expected a multiple of the ${size} bytes of ${dtype}, got ${bytes.byteLength} bytes`,
    );
  const target = shape ?? [bytes.byteLength / size];
  checkShape("fromBuffer", target);
  if (numel(target) * size !== bytes.byteLength)
    throw new HeedError(
      "ERR_SHAPE",
      `fromBuffer: expected ${numel(target) * size} bytes for shape ${formatShape(target)} of ${dtype}, got ` +
        `${bytes.byteLength}`,
    );
  const handle = native.share(dtypeIndex(dtype), target, bytes);
  // A thread that got the memory could free it while the queue uses it.
  if (bytes.buffer instanceof ArrayBuffer) markAsUntransferable(bytes.buffer);
  const described = { handle, device: 0, dtype: dtypeIndex(dtype), shape: [...target] };
  return tensorOf({ ...described, strides: contiguousStrides(target) }, bytes.buffer);
}

/** Returns the memory as bytes. */
function bytesIn(source: unknown): Uint8Array {
  const isBuffer = source instanceof ArrayBuffer || source instanceof SharedArrayBuffer;
  if (!isBuffer && !ArrayBuffer.isView(source))
    throw new HeedError(
      "ERR_ARGUMENT",
      `fromBuffer: expected an ArrayBuffer, a SharedArrayBuffer or a view of one, got ${describe(source)}`,
    );
  const buffer: ArrayBufferLike = isBuffer ? source : source.buffer;
  // Memory that shrinks would take the rest away from under the queue. Shared memory only grows.
  if (buffer instanceof ArrayBuffer && (buffer as { resizable?: boolean }).resizable === true)
    throw new HeedError("ERR_ARGUMENT", "fromBuffer: expected memory of a fixed size, got a resizable ArrayBuffer");
  try {
    return isBuffer ? new Uint8Array(buffer) : new Uint8Array(buffer, source.byteOffset, source.byteLength);
  } catch (cause) {
    throw new HeedError("ERR_ARGUMENT", "fromBuffer: expected live memory, got a detached ArrayBuffer", { cause });
  }
}

function dtypeFor(source: BufferSource, wanted: DType | undefined): DType {
  const held = Object.entries(dtypesOf).find(([name]) => isOf(source, name));
  if (!held)
    throw new HeedError(
      "ERR_DTYPE",
      `fromBuffer: expected an array of ${oneOf(dtypes)}, got a ${source.constructor.name}; tensor() converts its values`,
    );
  const [name, possible] = held;
  if (wanted === undefined && name === "Uint16Array")
    throw new HeedError("ERR_DTYPE", "fromBuffer: expected dtype to be bf16 or f16 for a Uint16Array, got undefined");
  const dtype = wanted ?? possible[0]!;
  if (!possible.includes(dtype))
    throw new HeedError(
      "ERR_DTYPE",
      `fromBuffer: expected dtype to be ${oneOf(possible)} for a ${name}, got ${describe(dtype)}`,
    );
  return dtype;
}

function isOf(source: BufferSource, name: string): boolean {
  const type = (globalThis as Record<string, unknown>)[name];
  return typeof type === "function" && source instanceof type;
}

/**
 * Storages of memory that left heed or came to it, by the object that stands for the memory: an External or an
 * ArrayBuffer. All tensors that are made of it share its version, so that what one of them writes is new for all.
 */
const storages = new WeakMap<object, Storage>();

function share(source: object, storage: Storage): void {
  storage.foreign = true;
  storages.set(source, storage);
}

/** Makes a tensor of what the addon returns. `source` is the object that stands for its memory. */
function tensorOf({ handle, device, dtype, shape, strides }: DescribedTensor, source: object): Tensor {
  const on = device === 0 ? Device.cpu : Device.cuda(device - 1);
  const storage = storages.get(source) ?? new Storage();
  share(source, storage);
  return new Tensor({ shape, strides, dtype: dtypes[dtype]!, device: on, shared: new SharedHandle(handle, storage) });
}

function checkTensor(op: string, x: unknown): asserts x is Tensor {
  if (!(x instanceof Tensor)) throw new HeedError("ERR_ARGUMENT", `${op}: expected a tensor, got ${describe(x)}`);
}

/**
 * Tells heed that code outside of it has written to the memory of a tensor: to the array of `fromBuffer`, in an addon, or
 * through DLPack. Copies that heed keeps of it are then stale, and `backward()` throws if it needs the old values.
 *
 * @example
 * const memory = Float32Array.of(1, 2);
 * using x = fromBuffer(memory);
 * await x.data();
 * memory[0] = 3;
 * markWritten(x);
 *
 * @throws ERR_ARGUMENT or ERR_DISPOSED if `x` is not a live tensor.
 */
export function markWritten(x: Tensor): void {
  checkTensor("markWritten", x);
  x.overwritten();
}

/**
 * Returns heed's C interface for a native addon, as an External: native/include/heed.h describes it, and the addon passes
 * the External's data to `heed_open`. It belongs to the thread that calls the function.
 *
 * @example
 * const external = nativeInterface();
 * // addon.open(external);
 */
export function nativeInterface(): NativeInterface {
  return native.interface();
}

/**
 * Returns a tensor as an External for an addon, whose `tensor_from_value` makes a tensor of it, without a copy. The External
 * has a share of the memory until it is collected, so you may dispose the tensor. No gradient goes through the addon.
 *
 * @example
 * const external = toNative(x);
 * // addon.scale(external);
 *
 * @throws ERR_ARGUMENT or ERR_DISPOSED if `x` is not a live tensor.
 */
export function toNative(x: Tensor): NativeTensor {
  checkTensor("toNative", x);
  const external = native.toNative(x.handle);
  share(external, x.storage);
  return external;
}

/**
 * Returns the tensor of an External that an addon made by `tensor_to_value`, without a copy. The tensor has its own share
 * of the memory. Dispose it as any other.
 *
 * @example
 * using y = fromNative(toNative(x)); // another tensor over the memory of x
 *
 * @throws ERR_ARGUMENT if it is not such an External.
 */
export function fromNative(external: NativeTensor): Tensor {
  return tensorOf(native.fromNative(external), external);
}

/** Options of `toDLPack`. */
export interface ToDLPackOptions {
  /**
   * True for the struct of DLPack 1 (DLManagedTensorVersioned), false for the one before (DLManagedTensor), which cannot
   * say that memory is read-only. @default true
   */
  versioned?: boolean;
}

/**
 * Returns a tensor as a DLPack tensor in an External, for another native library, without a copy. The promise resolves
 * when the elements have been computed.
 *
 * The DLPack tensor has a share of the memory until the library calls its deleter, on any thread, so you may dispose the
 * tensor. If nobody takes the DLPack tensor, garbage collection frees it. Take care that heed and the library do not use
 * the memory at the same time: on CUDA the library has to wait for its own work before heed uses the tensor again.
 *
 * Addons find the DLPack tensor by `dlpack_from_value` of native/include/heed.h.
 *
 * @example
 * const external = await toDLPack(x);
 * using y = fromDLPack(external); // another tensor over the memory of x
 *
 * @throws ERR_ARGUMENT or ERR_DISPOSED if `x` is not a live tensor; otherwise the errors of `data`.
 */
export async function toDLPack(x: Tensor, options: ToDLPackOptions = {}): Promise<DLPackTensor> {
  checkTensor("toDLPack", x);
  checkObject("toDLPack", "options", options);
  const { versioned = true } = options;
  checkBoolean("toDLPack", "versioned", versioned);
  const external = native.toDLPack(x.handle, versioned);
  share(external, x.storage);
  await native.computed(x.handle);
  return external;
}

/**
 * Returns a tensor over the memory of a DLPack tensor, without a copy. It takes the DLPack tensor out of the External, and
 * calls its deleter, on this thread, when no tensor and no operation uses the memory any more.
 *
 * heed takes f32, bf16, f16, i32, u8 and booleans (as u8) on the CPU and on CUDA, with strides of at least 0. Operations
 * refuse to write to a tensor that the other library has marked as read-only. The other library must have computed the
 * elements before.
 *
 * @example
 * using y = fromDLPack(await toDLPack(x));
 *
 * @throws ERR_ARGUMENT if it is not such an External, or the memory is not aligned to its elements; ERR_DISPOSED if the
 *   DLPack tensor has been taken; ERR_DTYPE, ERR_SHAPE or ERR_DEVICE if heed has no such tensor. The DLPack tensor is then
 *   freed.
 */
export function fromDLPack(external: DLPackTensor): Tensor {
  return tensorOf(native.fromDLPack(external), external);
}
