import { checkBoolean, checkChoice, checkInteger, checkObject } from "../check.js";
import { type Device, device as deviceOf } from "../device.js";
import { HeedError } from "../errors.js";
import { tensor } from "../creation.js";
import type { Tensor } from "../tensor.js";

/**
 * Which sinusoids are meant: dimension pair i of C/2 turns by 10000^(−exponent) a position, and has its sine and its
 * cosine in the vector.
 */
export interface Sinusoids {
  /**
   * "interleaved" (the paper's, unless given): sine and cosine of a pair are neighbours; "halves" (tensor2tensor's and
   * its descendants'): all sines, then all cosines.
   */
  layout?: "interleaved" | "halves";
  /**
   * Whether the slowest pair has the wavelength 10000·2π itself: the exponent is i/(C/2 − 1), as in tensor2tensor, and
   * not i/(C/2), as in the paper. false unless given.
   */
  inclusive?: boolean;
  /** The position of the first token: 0, unless given; OpenNMT has 1. */
  first?: number;
}

export interface SinusoidalTableOptions extends Sinusoids {
  /** C, an even number. */
  width: number;
  /** Positions. */
  length: number;
  /** "auto" unless given. */
  device?: Device | (string & {});
}

/** Of a table: 1 GiB. */
const mostNumbers = 2 ** 28;

/** The sinusoids of each position (Vaswani et al. 2017, §3.5): f32 [length, C], computed in float64. */
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

/** Every option filled in and checked. Throws ERR_ARGUMENT or ERR_RANGE. */
export function checkSinusoids(op: string, options: Sinusoids): Required<Sinusoids> {
  checkObject(op, "sinusoids", options);
  const { layout = "interleaved", inclusive = false, first = 0 } = options;
  checkChoice(op, "layout", layout, ["interleaved", "halves"]);
  checkBoolean(op, "inclusive", inclusive);
  checkInteger(op, "first", first, 0, 2 ** 31 - 1);
  return { layout, inclusive, first };
}
