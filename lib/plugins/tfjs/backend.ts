import type { Device } from "../../core/device.js";
import { HeedError } from "../../util/errors.js";
import { native, ops } from "../../core/native.js";
import type { DType } from "../../core/dtype.js";
import { allocate, type Tensor } from "../../core/tensor.js";
import { HostKernels } from "./host.js";
import { deviceType, hostValues, type Stored } from "./stored.js";
import type { HostValues, TensorFlow, TensorInfo, TensorType } from "./types.js";

/** Largest number of elements whose copy in host memory is kept when they are copied to the device. */
const keptOnHost = 1024;
/** Largest number of constants that are kept on the device. */
const mostConstants = 256;

/** Use of memory, as `tf.memory()` returns it together with TensorFlow.js' own counts. */
export interface BackendMemory {
  /** False: the counts follow from the calls. */
  unreliable: boolean;
  /** Bytes of all live tensors on heed's device, including those of other users of heed in the process. */
  bytesOnDevice: number;
}

/** Time that kernels took, and where they ran. */
export interface KernelTime {
  /** Milliseconds until the kernels were done. */
  kernelMs: number;
  /** Returns a text that tells if the kernels ran on the host or on the device. */
  getExtraProfileInfo: () => string;
}

/**
 * Backend of TensorFlow.js over heed's tensors. `register` makes it: TensorFlow.js calls its methods.
 *
 * Elements are copied to the device when a kernel first reads them there. float32 is stored as f32, int32 as i32 and bool
 * as u8; complex64 is a pair of float32 tensors, and strings stay in host memory.
 */
export class HeedBackend {
  /** @internal Kernels that are computed on the host. */
  readonly host: HostKernels;
  readonly #stored = new WeakMap<object, Stored>();
  readonly #constants = new Map<string, Tensor>();
  #count = 0;

  constructor(
    /** @internal Copy of tfjs-core that the backend belongs to. */
    readonly tf: TensorFlow,
    /** Device that holds the elements and runs the kernels. */
    readonly device: Device,
  ) {
    this.host = new HostKernels(tf);
  }

  /** Returns 32: numbers are computed in f32. */
  floatPrecision(): 16 | 32 {
    return 32;
  }

  /** Returns the smallest number that TensorFlow.js adds to denominators. */
  epsilon(): number {
    return 1e-7;
  }

  /** Stores elements and returns their data id. The array must not change afterwards. */
  write(values: unknown, _shape: readonly number[], dtype: TensorType): object {
    const id = {};
    this.#add(id, { dtype, references: 1, values: hostValues(values, dtype), tensor: null, parts: null });
    return id;
  }

  /** Takes elements over from another backend. */
  move(id: object, values: unknown, shape: number[], dtype: TensorType, references: number): void {
    if (dtype !== "complex64") {
      this.#add(id, { dtype, references, values: hostValues(values, dtype), tensor: null, parts: null });
      return;
    }
    const { real, imag } = this.tf.backend_util.splitRealAndImagArrays(values as Float32Array);
    this.#add(id, {
      dtype,
      references,
      values: null,
      tensor: null,
      parts: { real: this.hostResult(real, shape, "float32"), imag: this.hostResult(imag, shape, "float32") },
    });
  }

  /**
   * Resolves to the elements, once the device has computed them. The event loop stays free meanwhile.
   *
   * @throws the error of an operation that failed on the device, if the elements were computed from its result
   */
  async read(id: object): Promise<HostValues> {
    const { values, tensor, parts } = this.stored(id);
    if (parts) {
      const [real, imag] = await Promise.all([this.read(parts.real.dataId), this.read(parts.imag.dataId)]);
      return this.tf.backend_util.mergeRealAndImagArrays(real as Float32Array, imag as Float32Array);
    }
    return values ? (tensor ? values.slice() : values) : tensor!.data();
  }

  /**
   * Returns the elements and waits for them: the event loop stands still until the device has run everything that was
   * enqueued before. Elements that are also in host memory are returned at once.
   *
   * @throws the errors of `read`
   */
  readSync(id: object): HostValues {
    const { values, tensor, parts } = this.stored(id);
    if (parts) {
      const [real, imag] = [this.readSync(parts.real.dataId), this.readSync(parts.imag.dataId)];
      return this.tf.backend_util.mergeRealAndImagArrays(real as Float32Array, imag as Float32Array);
    }
    return values ? (tensor ? values.slice() : values) : tensor!.dataSync();
  }

  /** Counts one more user of the elements. */
  incRef(id: object): void {
    this.stored(id).references++;
  }

  /** Returns the number of users of the elements; 0 if the backend does not hold them. */
  refCount(id: object): number {
    return this.#stored.get(id)?.references ?? 0;
  }

  /** Frees the elements if they have no further user, or with `force` in any case. Returns true if they are gone. */
  disposeData(id: object, force = false): boolean {
    const stored = this.#stored.get(id);
    if (!stored) return true;
    if (--stored.references > 0 && !force) return false;
    for (const part of stored.parts ? [stored.parts.real, stored.parts.imag] : []) this.disposeData(part.dataId, true);
    stored.tensor?.dispose();
    this.#stored.delete(id);
    this.#count--;
    return true;
  }

  /** Returns the number of data ids, of which complex numbers have three. */
  numDataIds(): number {
    return this.#count;
  }

  /** Returns the use of memory on the device. */
  memory(): BackendMemory {
    return { unreliable: false, bytesOnDevice: this.device.memory().live };
  }

  /** Returns true: the device measures its own time. */
  timerAvailable(): boolean {
    return true;
  }

  /**
   * Runs `work` and resolves to the milliseconds from when the device begins its operations until it has run them. For
   * kernels on the host, they include the time of the copies and the computation there.
   */
  async time(work: () => void): Promise<KernelTime> {
    const before = this.host.calls;
    const elapsed = this.device.elapsed(work);
    const onHost = this.host.calls > before;
    const kernelMs = await elapsed;
    return { kernelMs, getExtraProfileInfo: () => (onHost ? "computed on the host" : `computed on ${this.device}`) };
  }

  /**
   * Refuses a read into a texture or a buffer of WebGPU.
   *
   * @throws ERR_ARGUMENT always
   */
  readToGPU(): never {
    throw new HeedError("ERR_ARGUMENT", "readToGPU: expected a backend of WebGL or WebGPU, got heed; use data()");
  }

  /**
   * Refuses a texture or a buffer of WebGPU.
   *
   * @throws ERR_ARGUMENT always
   */
  createTensorFromGPUData(): never {
    throw new HeedError("ERR_ARGUMENT", "createTensorFromGPUData: expected a backend of WebGL or WebGPU, got heed");
  }

  /** Frees what the backend holds besides tensors, which are freed when nobody refers to them. */
  dispose(): void {
    for (const constant of this.#constants.values()) constant.dispose();
    this.#constants.clear();
    this.host.dispose();
  }

  /** @internal Returns what is stored behind a data id; elements of another backend are moved to this one. */
  stored(id: object): Stored {
    // TensorFlow.js asks for its own class, but uses any object with the methods.
    // eslint-disable-next-line @typescript-eslint/no-unsafe-class-instance-assignment
    if (!this.#stored.has(id)) this.tf.engine().moveData(this, id);
    return this.#stored.get(id)!;
  }

  /** @internal Returns the elements on the device, in the shape that they were made in. */
  onDevice({ dataId, shape }: TensorInfo): Tensor {
    const stored = this.stored(dataId);
    if (stored.tensor) return stored.tensor;
    const dtype = deviceType(stored.dtype);
    const { values } = stored;
    if (!dtype || !values)
      throw new HeedError("ERR_INTERNAL", `expected elements for the device, got those of ${stored.dtype}`);
    stored.tensor = allocate([...shape], dtype, this.device, false);
    native.upload(stored.tensor.handle, values as Float32Array);
    if (values.length > keptOnHost) stored.values = null;
    return stored.tensor;
  }

  /** @internal Returns the elements if they are in host memory, without waiting. */
  onHost({ dataId }: TensorInfo): HostValues | null {
    return this.stored(dataId).values;
  }

  /** @internal Returns a tensor of shape [] with this number, which the caller must not dispose. */
  constant(value: number, dtype: DType = "f32"): Tensor {
    const key = `${dtype} ${Object.is(value, -0) ? "-0" : value}`;
    let constant = this.#constants.get(key);
    if (!constant) {
      // The caller may hold another one for the same operation, so they are left to garbage collection.
      if (this.#constants.size >= mostConstants) this.#constants.clear();
      constant = allocate([], dtype, this.device, false);
      if (dtype === "f32") ops.fill({ out: constant, value });
      else native.upload(constant.handle, dtype === "i32" ? Int32Array.of(value) : Uint8Array.of(value));
      this.#constants.set(key, constant);
    }
    return constant;
  }

  /** @internal Stores a kernel's result on the device, which then belongs to the backend. */
  result(tensor: Tensor, shape: readonly number[], dtype: TensorType): TensorInfo {
    const dataId = {};
    this.#add(dataId, { dtype, references: 1, values: null, tensor, parts: null });
    return { dataId, shape: [...shape], dtype };
  }

  /** @internal Stores a kernel's result in host memory. */
  hostResult(values: unknown, shape: readonly number[], dtype: TensorType): TensorInfo {
    return { dataId: this.write(values, shape, dtype), shape: [...shape], dtype };
  }

  /** @internal Returns the same elements as another tensor with the same data id. */
  share(info: TensorInfo, shape: readonly number[] = info.shape): TensorInfo {
    this.incRef(info.dataId);
    return { dataId: info.dataId, shape: [...shape], dtype: info.dtype };
  }

  /** @internal Returns the same elements with a data id of their own. */
  copy({ dataId, shape }: TensorInfo): TensorInfo {
    const { dtype, values, tensor } = this.stored(dataId);
    const id = {};
    this.#add(id, { dtype, references: 1, values, tensor: tensor?.alias() ?? null, parts: null });
    return { dataId: id, shape: [...shape], dtype };
  }

  /** @internal Stores complex numbers, whose parts then belong to the backend. */
  complex(real: TensorInfo, imag: TensorInfo): TensorInfo {
    const dataId = {};
    this.#add(dataId, { dtype: "complex64", references: 1, values: null, tensor: null, parts: { real, imag } });
    return { dataId, shape: [...real.shape], dtype: "complex64" };
  }

  #add(id: object, stored: Stored): void {
    this.#stored.set(id, stored);
    this.#count++;
  }
}
