import { checkChoice, checkInteger, checkNumber, checkObject } from "../util/check.js";
import { describe, HeedError } from "../util/errors.js";
import { type CollectivesInfo, native } from "../core/native.js";
import { checkTensor } from "../ops/check.js";
import { formatShape } from "../core/shape.js";
import type { FloatTensor } from "../core/tensor.js";
import { version } from "../util/version.js";
import { kinds, type Reduction, reductions, wires } from "./kinds.js";
import { PendingCollective } from "./pending-collective.js";

/** Options of `Collectives.open`. */
export interface CollectivesOptions {
  /**
   * Seconds after which a process that does not answer counts as dead. All processes then end, at most two seconds later.
   * @default 7, or HEED_DISTRIBUTED_TIMEOUT
   */
  timeout?: number;
}

/** Seconds that a process has to report a failure of the run before all processes are ended. */
const grace = 1.5;
/** Milliseconds between two signs of life of the JavaScript thread. */
const tick = 500;
/** Largest number of elements in one operation of MPI, whose counts have 32 bits. */
const mostElements = 2 ** 30;

const op = "Collectives";
let opening: Promise<Collectives> | null = null;

/**
 * The processes of a distributed run, and the operations that they call together. Each process must call the same
 * operations in the same order, with tensors of the same size.
 *
 * The processes are started by a launcher such as `mpirun`. MPI is loaded at run time: the library of the launcher, or
 * the one that the environment variable HEED_MPI names. It has a thread of its own, so that no call blocks. Operations
 * on tensors run in the order of the device's queue: they begin when the queue has computed their input, and the queue
 * goes on until `wait()`.
 *
 * MPI does the operations on numbers of the host and on tensors of the CPU. NCCL does those on tensors of a CUDA device, on
 * a stream of its own; it is loaded when the first of them begins. Each process needs a CUDA device for itself, such as
 * `cuda:${collectives.localRank}`, and uses only one.
 *
 * If a process dies or hangs, every operation fails with ERR_DISTRIBUTED, and all processes end within ten seconds.
 *
 * @example
 * const collectives = await Collectives.open();
 * const total = await collectives.sum(Float64Array.of(1)); // the number of processes
 */
export class Collectives {
  /** Number of this process, counted from 0. */
  readonly rank: number;
  /** Number of processes. */
  readonly size: number;
  /** Number of this process among those of its machine. */
  readonly localRank: number;
  /** File of the MPI library. */
  readonly library: string;
  /** The library's own text about its version. */
  readonly version: string;
  readonly #timer: NodeJS.Timeout;
  #closed = false;
  readonly #onExit = (code: number): void => {
    // Without an end of MPI, the launcher would report a failure.
    if (code === 0) this.close();
  };

  private constructor({ rank, size, localRank, library, version }: CollectivesInfo) {
    [this.rank, this.size, this.localRank] = [rank, size, localRank];
    [this.library, this.version] = [library, version];
    this.#timer = setInterval(() => native.collectivesTick(), tick).unref();
    process.once("exit", this.#onExit);
  }

  /**
   * Starts MPI and resolves when all processes of the run have done so. A process can do this once; later calls resolve
   * to the same object. Without a launcher, the run has one process.
   *
   * @throws ERR_DISTRIBUTED if the MPI library is missing, is not the launcher's, or if the processes have different
   *   versions of it or of heed.
   */
  static open(options: CollectivesOptions = {}): Promise<Collectives> {
    return (opening ??= start(options, (info) => new Collectives(info)));
  }

  /**
   * Begins the sum (or the largest) of all processes' tensors, element by element, which replaces the tensor in each of
   * them: f32 or bf16, which is rounded after each addition. All processes get the same bits. On the CPU, they are also
   * the same in every run with as many processes; on CUDA devices, NCCL decides in which order it adds.
   *
   * @throws ERR_DTYPE or ERR_SHAPE if the tensor is of another dtype or not contiguous.
   */
  allReduce(tensor: FloatTensor, { reduction = "sum" }: { reduction?: Reduction } = {}): PendingCollective {
    checkChoice("allReduce", "reduction", reduction, Object.keys(reductions));
    return this.#whole("allReduce", tensor, reductions[reduction], 0);
  }

  /** Begins to replace the tensor in each process by that of the process `root`. */
  broadcast(tensor: FloatTensor, { root = 0 }: { root?: number } = {}): PendingCollective {
    checkInteger("broadcast", "root", root, 0, this.size - 1);
    return this.#whole("broadcast", tensor, 0, root);
  }

  /**
   * Begins the sum (or the largest) of all processes' `inp`, of `size` times as many elements as `out`. Each process gets
   * the part of the result that has its rank, in `out`.
   */
  reduceScatter(
    out: FloatTensor,
    inp: FloatTensor,
    { reduction = "sum" }: { reduction?: Reduction } = {},
  ): PendingCollective {
    checkChoice("reduceScatter", "reduction", reduction, Object.keys(reductions));
    return this.#parted("reduceScatter", out, inp, reductions[reduction]);
  }

  /** Begins to write the `inp` of all processes to `out`, in the order of their ranks. */
  allGather(out: FloatTensor, inp: FloatTensor): PendingCollective {
    return this.#parted("allGather", out, inp, 0);
  }

  /** Resolves to the sum (or the largest) of all processes' numbers, one by one, in f64. */
  async sum(values: Float64Array, { reduction = "sum" }: { reduction?: Reduction } = {}): Promise<Float64Array> {
    checkChoice("sum", "reduction", reduction, Object.keys(reductions));
    const { allReduce } = kinds;
    return new Float64Array(
      await native.collectiveHost(allReduce, reductions[reduction], wires.f64, 0, bytesOf(values)),
    );
  }

  /** Resolves to the numbers of all processes, in the order of their ranks. Each gives equally many. */
  async gather(values: Float64Array): Promise<Float64Array[]> {
    const all = await native.collectiveHost(kinds.allGather, 0, wires.f64, 0, bytesOf(values));
    return Array.from({ length: this.size }, (_, i) => new Float64Array(all, 8 * values.length * i, values.length));
  }

  /** Resolves to the values of all processes, in the order of their ranks; they are passed as JSON. */
  async gatherJson(value: unknown): Promise<unknown[]> {
    const own = Buffer.from(JSON.stringify(value ?? null));
    const lengths = await this.gather(Float64Array.of(own.length));
    const longest = Math.max(...lengths.map(([length]) => length!));
    const padded = new Uint8Array(longest);
    padded.set(own);
    const all = await native.collectiveHost(kinds.allGather, 0, wires.byte, 0, padded.buffer);
    return lengths.map(([length], i) => JSON.parse(Buffer.from(all, i * longest, length).toString()) as unknown);
  }

  /** Resolves when all processes have called it. */
  async barrier(): Promise<void> {
    await native.collectiveHost(kinds.barrier, 0, wires.byte, 0, new ArrayBuffer(0));
  }

  /**
   * @internal Lets the other processes treat this one as dead when its JavaScript thread is busy for longer than the
   * timeout, until the returned function is called.
   */
  watch(): () => void {
    native.collectivesWatch(true);
    return () => native.collectivesWatch(false);
  }

  /**
   * Fails the run because of an error of this process: operations fail, and all processes are ended soon if this one does
   * not end by itself.
   */
  fail(error: unknown): void {
    if (!this.#closed) native.collectivesFail(error instanceof Error ? error.message : String(error));
  }

  /**
   * Ends MPI, when all processes have called it, and blocks until then. It is called when the process exits with code 0.
   * Returns false if it has failed.
   */
  close(): boolean {
    if (this.#closed) return true;
    this.#closed = true;
    clearInterval(this.#timer);
    process.off("exit", this.#onExit);
    return native.collectivesClose();
  }

  /** Ends all processes of the run at once, with this exit code. */
  abort(code = 1): never {
    return native.collectivesAbort(code);
  }

  /** Begins an operation in place, in pieces that MPI can count. */
  #whole(kind: "allReduce" | "broadcast", tensor: FloatTensor, reduction: number, root: number): PendingCollective {
    check(kind, "tensor", tensor);
    const { handle } = tensor;
    if (tensor.size <= mostElements)
      return new PendingCollective([native.collectiveStart(kinds[kind], reduction, root, handle, handle)], tensor);
    const works = [];
    for (let at = 0; at < tensor.size; at += mostElements) {
      const piece = tensor.viewAs([Math.min(mostElements, tensor.size - at)], [1], at, false);
      works.push(native.collectiveStart(kinds[kind], reduction, root, piece.handle, piece.handle));
      piece.dispose();
    }
    return new PendingCollective(works, tensor);
  }

  #parted(
    kind: "reduceScatter" | "allGather",
    out: FloatTensor,
    inp: FloatTensor,
    reduction: number,
  ): PendingCollective {
    check(kind, "out", out);
    check(kind, "inp", inp);
    const [large, small] = kind === "allGather" ? [out, inp] : [inp, out];
    if (large.size !== small.size * this.size)
      throw new HeedError(
        "ERR_SHAPE",
        `${kind}: expected ${kind === "allGather" ? "out" : "inp"} to have ${this.size} times the ${small.size} elements of the other, got shape ${formatShape(large.shape)}`,
      );
    return new PendingCollective([native.collectiveStart(kinds[kind], reduction, 0, out.handle, inp.handle)], out);
  }
}

function check(kind: string, name: string, tensor: unknown): void {
  checkTensor(kind, name, tensor);
  const { dtype, contiguous } = tensor as FloatTensor;
  if (dtype !== "f32" && dtype !== "bf16")
    throw new HeedError("ERR_DTYPE", `${kind}: expected ${name} to be f32 or bf16, got ${dtype}`);
  if (!contiguous)
    throw new HeedError("ERR_SHAPE", `${kind}: expected ${name} to be contiguous, got ${describe(tensor)}`);
}

function bytesOf({ buffer, byteOffset, byteLength }: Float64Array): ArrayBufferLike {
  return byteLength === buffer.byteLength ? buffer : buffer.slice(byteOffset, byteOffset + byteLength);
}

async function start(options: CollectivesOptions, make: (info: CollectivesInfo) => Collectives): Promise<Collectives> {
  checkObject(op, "options", options);
  const named = process.env.HEED_DISTRIBUTED_TIMEOUT;
  const timeout = options.timeout ?? (named ? Number(named) : 7);
  checkNumber(op, "timeout", timeout, 0.1, 1e6);
  const collectives = make(await native.collectivesOpen(timeout, grace));
  await compare(collectives);
  return collectives;
}

/** Checks that all processes run the same programs. */
async function compare(collectives: Collectives): Promise<void> {
  if (collectives.size === 1) return;
  const own = { heed: version(), MPI: collectives.version };
  const all = (await collectives.gatherJson(own)) as (typeof own)[];
  for (const [rank, other] of all.entries())
    for (const name of ["heed", "MPI"] as const)
      if (other[name] !== all[0]![name])
        throw new HeedError(
          "ERR_DISTRIBUTED",
          `${op}: expected the same ${name} in all processes, got ${all[0]![name]} at rank 0 and ${other[name]} at rank ${rank}`,
        );
}
