// Chooses the scale and the codes of a group of an output's weights: of several scales, each improved by least squares
// for the codes that it gives, the one with the least error. Within the group, too, later weights make up for the errors of
// earlier ones (feedback.ts).
import { brainBits } from "../../core/dtype.js";
import type { QuantizedBits } from "../../ops/quantize.js";

/** Most weights of a group. */
const mostInGroup = 256;

const room = new Float32Array(1);
const roomBits = new Uint32Array(room.buffer);

/** Returns a number rounded to bf16, and one of its normal numbers if it is not 0. */
function toBf16(value: number): number {
  room[0] = value;
  roomBits[0] = brainBits(roomBits[0]!) << 16;
  const rounded = room[0];
  if (value !== 0 && Math.abs(rounded) < 2 ** -126) return value < 0 ? -(2 ** -126) : 2 ** -126;
  return rounded;
}

/** Feedback within a group. */
export interface GroupFeedback {
  /** The group's block of U, transposed: element [j, k] is what weight j gets of the error of weight k < j. */
  readonly factor: Float64Array;
  /** Weights of the squared errors. */
  readonly weights: Float64Array;
}

/** Result of `GroupSearch.run`. */
interface GroupCodes {
  readonly scale: number;
  readonly codes: Int32Array;
}

/** Searches the codes of one group after another. */
export class GroupSearch {
  readonly #low: number;
  readonly #high: number;
  readonly #candidates: readonly number[];
  /** The weights, with what they get of the errors of earlier ones if all codes of the group are 0. */
  readonly #a = new Float64Array(mostInGroup);
  readonly #codes = new Int32Array(mostInGroup);
  readonly #best = new Int32Array(mostInGroup);
  /** Σ D a b and Σ D b² of the last trial; b_j is what the codes contribute to ŵ_j - v_j, without the scale. */
  #ab = 0;
  #bb = 0;

  constructor(bits: QuantizedBits) {
    this.#low = bits === 8 ? -127 : -8;
    this.#high = bits === 8 ? 127 : 7;
    // Numbers of scales to which the largest weight is mapped.
    const [most, step] = bits === 8 ? [127, 0.5] : [8, 0.1];
    this.#candidates = Array.from({ length: 19 }, (_, i) => most + step * (i - 9));
  }

  /**
   * Returns the scale, a number of bf16, and the codes of `count` weights.
   *
   * @param weights the weights
   * @param carried what they get of the errors of earlier groups; null means nothing
   */
  run(weights: Float64Array, carried: Float64Array | null, count: number, feedback: GroupFeedback | null): GroupCodes {
    const a = this.#a;
    let largest = 0;
    for (let j = 0; j < count; j++) {
      let x = weights[j]! + (carried ? carried[j]! : 0);
      if (Math.abs(x) > Math.abs(largest)) largest = x;
      if (feedback) for (let k = 0; k < j; k++) x += weights[k]! * feedback.factor[j * count + k]!;
      a[j] = x;
    }
    const best = this.#best;
    best.fill(0, 0, count);
    if (largest === 0) return { scale: 0, codes: best };
    if (!Number.isFinite(largest)) return { scale: NaN, codes: best };
    let [least, scale, improved] = [Infinity, 0, 0];
    const attempt = (step: number): void => {
      const loss = this.#loss(step, count, feedback, least);
      if (!(loss < least)) return;
      [least, scale] = [loss, step];
      best.set(this.#codes);
      improved = this.#bb > 0 ? this.#ab / this.#bb : step;
    };
    for (const reach of this.#candidates) attempt(toBf16(-largest / reach));
    for (let i = 0; i < 3 && toBf16(improved) !== scale; i++) attempt(toBf16(improved));
    return { scale, codes: best };
  }

  /** Sets the codes for a scale, and returns the error; infinity if it is not less than `most`. */
  #loss(scale: number, count: number, feedback: GroupFeedback | null, most: number): number {
    const [a, codes, low, high] = [this.#a, this.#codes, this.#low, this.#high];
    let [loss, ab, bb] = [0, 0, 0];
    for (let j = 0; j < count; j++) {
      let earlier = 0;
      let weight = 1;
      if (feedback) {
        const { factor } = feedback;
        const row = j * count;
        for (let k = 0; k < j; k++) earlier += codes[k]! * factor[row + k]!;
        weight = feedback.weights[j]!;
      }
      const x = a[j]! - scale * earlier;
      const q = Math.max(low, Math.min(high, Math.round(x / scale)));
      codes[j] = q;
      const error = x - q * scale;
      loss += weight * error * error;
      if (!(loss < most)) return Infinity;
      const b = q + earlier;
      ab += weight * a[j]! * b;
      bb += weight * b * b;
    }
    this.#ab = ab;
    this.#bb = bb;
    return loss;
  }
}
