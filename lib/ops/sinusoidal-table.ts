import { checkBoolean, checkChoice, checkInteger, checkObject } from "../util/check.js";
import { type Device, device as deviceOf } from "../core/device.js";
import { HeedError } from "../util/errors.js";
import { tensor } from "../core/creation.js";
import type { Tensor } from "../core/tensor.js";

/**
 * Variant of sinusoidal positions. Pair i of the C/2 pairs of dimensions turns by 10000^(−exponent) at each position,
 * and its sine and cosine are in the vector.
 */
export interface Sinusoids {
  /**
   * Order of sines and cosines. In "interleaved", the paper's order, the sine and cosine of a pair are neighbours. In
   * "halves", the order of tensor2tensor and its successors, all sines come before all cosines.
   *
   * @default "interleaved"
   */
  layout?: "interleaved" | "halves";
  /**
   * True if the slowest pair has exactly the wavelength 10000·2π: the exponent is then i/(C/2 − 1), as in
   * tensor2tensor, and not i/(C/2), as in the paper.
   *
   * @default false
   */
  inclusive?: boolean;
  /** Position of the first token; OpenNMT begins with 1. @default 0 */
  first?: number;
}

/** Options of `sinusoidalTable`. */
export interface SinusoidalTableOptions extends Sinusoids {
  /** C, the width of the vectors; an even number. */
  width: number;
  /** Number of positions. */
  length: number;
  /** Device that holds the table. @default "auto" */
  device?: Device | (string & {});
}

/** Largest number of elements in a table: 1 GiB. */
const mostNumbers = 2 ** 28;

/**
 * Returns the sinusoids of each position, f32 [length, C], computed in float64.
 *
 * @example
 * const positions = sinusoidalTable({ width: 8, length: 2 });
 * const y = add(x, positions);
 *
 * @throws ERR_RANGE if a number is out of range or the table would take more than 1 GiB; ERR_ARGUMENT for an unknown
 *   layout.
 * @see Vaswani et al. 2017, "Attention Is All You Need", §3.5, arXiv:1706.03762.
 */
export function sinusoidalTable(options: SinusoidalTableOptions): Tensor<"f32"> {
  const op = "sinusoidalTable";
  checkObject(op, "options", options);
  const { width, length, device } = options;
  const { layout, inclusive, first } = checkSinusoids(op, options);
  checkInteger(op, "width", width, 2, 2 ** 16);
  if (width % 2 !== 0) throw new HeedError("ERR_RANGE", `${op}: expected an even width, got ${width}`);
  checkInteger(op, "length", length, 0, Math.floor(mostNumbers / width));
  const half = width / 2;
  const divisor = Math.max(1, inclusive ? half - 1 : half);
  const speeds = Array.from({ length: half }, (_, i) => 10_000 ** (-i / divisor));
  const values = new Float32Array(length * width);
  for (let t = 0; t < length; t++)
    for (let i = 0; i < half; i++) {
      const angle = (first + t) * speeds[i]!;
      const [sine, cosine] = layout === "halves" ? [i, half + i] : [2 * i, 2 * i + 1];
      values[t * width + sine] = Math.sin(angle);
      values[t * width + cosine] = Math.cos(angle);
    }
  return tensor(values, [length, width], device === undefined ? {} : { device: deviceOf(device) });
}

/**
 * Checks the options of sinusoids and fills in the defaults.
 *
 * @throws ERR_ARGUMENT or ERR_RANGE for a bad option.
 */
export function checkSinusoids(op: string, options: Sinusoids): Required<Sinusoids> {
  checkObject(op, "sinusoids", options);
  const { layout = "interleaved", inclusive = false, first = 0 } = options;
  checkChoice(op, "layout", layout, ["interleaved", "halves"]);
  checkBoolean(op, "inclusive", inclusive);
  checkInteger(op, "first", first, 0, 2 ** 31 - 1);
  return { layout, inclusive, first };
}
