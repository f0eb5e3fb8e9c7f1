// Gradients on their way between the processes. They are sent in buckets of a few megabytes: a bucket is sent as soon as
// its gradients are complete, while the backward pass computes those of earlier layers.
//
// See Li et al. 2020, "PyTorch Distributed: Experiences on Accelerating Data Parallel Training", arXiv:2006.15704.
import { noGrad } from "../core/autograd.js";
import { withFinalGradients } from "../core/final-gradients.js";
import { ops } from "../core/native.js";
import { contiguousStrides, numel } from "../core/shape.js";
import { allocate, type FloatTensor, type Tensor } from "../core/tensor.js";
import type { Collectives } from "./collectives.js";
import type { PendingCollective } from "./pending-collective.js";

/** Options of `GradientBuckets`. */
export interface GradientBucketsOptions {
  /** Largest number of bytes of f32 gradients in a bucket; a larger gradient has a bucket of its own. */
  bucketBytes: number;
  /** Dtype in which gradients are sent and summed. */
  wire: "f32" | "bf16";
}

/** A gradient's place in its bucket. */
interface Place {
  readonly parameter: FloatTensor;
  readonly offset: number;
}

interface Bucket {
  readonly places: readonly Place[];
  readonly size: number;
  /** Number of gradients that are not complete. */
  left: number;
  /** Memory that is sent, and the operation; null before it has begun. */
  sent: { flat: FloatTensor; work: PendingCollective } | null;
}

/** Sums the gradients of all processes. */
export class GradientBuckets {
  readonly #collectives: Collectives;
  readonly #options: GradientBucketsOptions;
  #parameters: readonly FloatTensor[] = [];
  #buckets: Bucket[] = [];
  readonly #bucketOf = new Map<Tensor, Bucket>();
  /** Number of buckets that are on their way; they are sent in order, which is the same in all processes. */
  #begun = 0;
  /** Parameters in these buckets that had no gradient. */
  #missing: FloatTensor[] = [];

  constructor(collectives: Collectives, options: GradientBucketsOptions) {
    this.#collectives = collectives;
    this.#options = options;
  }

  /**
   * Runs `body`, which calls `backward()`, and sends the gradients of the parameters meanwhile. `finish()` must follow,
   * also if `body` throws.
   */
  backward(parameters: readonly FloatTensor[], body: () => void): void {
    this.#lay(parameters);
    withFinalGradients((leaf) => this.#complete(leaf), body);
  }

  /**
   * Sends what is left, and makes the sums the gradients of the parameters. Nothing waits for them but later operations.
   * Returns the parameters for which this process had no gradient; the sum of the others' is their gradient now.
   */
  finish(parameters: readonly FloatTensor[]): FloatTensor[] {
    this.#lay(parameters);
    for (const bucket of this.#buckets.slice(this.#begun)) this.#send(bucket);
    for (const bucket of this.#buckets) this.#receive(bucket);
    const missing = this.#missing;
    [this.#begun, this.#missing] = [0, []];
    return missing;
  }

  /** Assigns parameters to buckets, from the last to the first, as the backward pass reaches them. */
  #lay(parameters: readonly FloatTensor[]): void {
    const same =
      parameters.length === this.#parameters.length && parameters.every((tensor, i) => tensor === this.#parameters[i]);
    if (same) return;
    this.#parameters = parameters;
    this.#buckets = [];
    this.#bucketOf.clear();
    let places: Place[] = [];
    let size = 0;
    const close = (): void => {
      if (places.length === 0) return;
      const bucket = { places, size, left: places.length, sent: null };
      this.#buckets.push(bucket);
      for (const { parameter } of places) this.#bucketOf.set(parameter, bucket);
      [places, size] = [[], 0];
    };
    for (const parameter of parameters.toReversed()) {
      if (4 * (size + parameter.size) > this.#options.bucketBytes) close();
      places.push({ parameter, offset: size });
      size += parameter.size;
    }
    close();
  }

  #complete(leaf: Tensor): void {
    const bucket = this.#bucketOf.get(leaf);
    if (!bucket) return;
    bucket.left--;
    while (this.#begun < this.#buckets.length && this.#buckets[this.#begun]!.left === 0)
      this.#send(this.#buckets[this.#begun]!);
  }

  /** Copies the gradients of a bucket side by side, frees them and begins to sum them. */
  #send(bucket: Bucket): void {
    const { places, size } = bucket;
    const { device } = places[0]!.parameter;
    noGrad(() => {
      const flat: FloatTensor = allocate([size], this.#options.wire, device, false);
      const [outs, inps]: [FloatTensor[], FloatTensor[]] = [[], []];
      for (const { parameter, offset } of places) {
        const part = flat.viewAs(parameter.shape, contiguousStrides(parameter.shape), offset, false);
        const { grad } = parameter;
        if (grad?.contiguous) {
          outs.push(part);
          inps.push(grad);
        } else {
          if (grad) ops.copy({ out: part, inp: grad });
          else {
            ops.fill({ out: part, value: 0 });
            this.#missing.push(parameter);
          }
          part.dispose();
        }
      }
      if (outs.length > 0) ops.copy_list({ outs, inps });
      for (const part of outs) part.dispose();
      for (const { parameter } of places) parameter.zeroGrad();
      bucket.sent = { flat, work: this.#collectives.allReduce(flat) };
    });
    this.#begun++;
  }

  #receive(bucket: Bucket): void {
    const { flat, work } = bucket.sent!;
    bucket.sent = null;
    bucket.left = bucket.places.length;
    work.wait();
    let sum = flat;
    if (flat.dtype !== "f32") {
      sum = allocate([bucket.size], "f32", flat.device, false);
      ops.copy({ out: sum, inp: flat });
    }
    for (const { parameter, offset } of bucket.places) {
      const { shape } = parameter;
      if (numel(shape) > 0) parameter.grad = sum.viewAs(shape, contiguousStrides(shape), offset, false);
    }
    if (sum !== flat) flat.dispose();
    sum.dispose();
  }
}
