import { record } from "../core/autograd.js";
import { HeedError } from "../util/errors.js";
import { ops } from "../core/native.js";
import { formatShape } from "../core/shape.js";
import { allocate, type FloatTensor, type IntTensor } from "../core/tensor.js";
import { checkDType, checkFloat, checkObject, checkShapeIs, checkTensor } from "./check.js";
import { contiguous } from "./views.js";

/** Options of `rotary`. */
export interface RotaryOptions {
  /** Position of each sequence's first token, i32 [B]. By default it is 0. */
  starts?: IntTensor | null;
  /** Position of each token, i32 [B, T], instead of `starts`. */
  positions?: IntTensor | null;
  /**
   * Pairs neighbours (2i, 2i + 1), as RoFormer does, instead of halves (i, i + R/2), as Llama's checkpoints do.
   *
   * @default false
   */
  interleaved?: boolean;
}

/**
 * Returns x with rotary position embedding: pair i of a head's first R dimensions is turned by the angle whose cosine
 * and sine are table[position, i]. Other dimensions do not change.
 *
 * x [B, T, H, D], table f32 [positions, R/2, 2] from `rotaryTable` → [B, T, H, D]. No gradient flows to the table. A
 * position outside the table is an error on the device: reading what is computed from the result rejects with
 * ERR_RANGE.
 *
 * @example
 * const table = rotaryTable({ size: 16, length: 32 });
 * const q = rotary(randn([2, 6, 4, 16], { seed: 1 }), table);
 *
 * @throws ERR_SHAPE if the shapes do not fit; ERR_RANGE if x has more tokens than the table has positions; ERR_ARGUMENT
 *   if both `starts` and `positions` are given.
 * @see Su et al. 2021, "RoFormer", arXiv:2104.09864.
 */
export function rotary(x: FloatTensor, table: FloatTensor, options: RotaryOptions = {}): FloatTensor {
  const op = "rotary";
  checkObject(op, "options", options);
  const { starts = null, positions = null, interleaved = false } = options;
  checkFloat(op, "x", x);
  checkShapeIs(op, "x", x, [-1, -1, -1, -1]);
  const [batch, length, , size] = x.shape as [number, number, number, number];
  checkTensor(op, "table", table, x);
  checkDType(op, "table", table, "f32");
  checkShapeIs(op, "table", table, [-1, -1, 2]);
  if (2 * table.shape[1]! > size)
    throw new HeedError(
      "ERR_SHAPE",
      `${op}: expected table to have at most ${Math.floor(size / 2)} pairs for the ${size} dimensions of x, got ${formatShape(table.shape)}`,
    );
  if (starts && positions) throw new HeedError("ERR_ARGUMENT", `${op}: expected one of starts and positions, got both`);
  for (const [name, tensor, shape] of [
    ["starts", starts, [batch]],
    ["positions", positions, [batch, length]],
  ] as const)
    if (tensor) {
      checkTensor(op, name, tensor, x);
      checkDType(op, name, tensor, "i32");
      checkShapeIs(op, name, tensor, shape);
    }
  if (!starts && !positions && length > table.shape[0]!)
    throw new HeedError("ERR_RANGE", `${op}: expected at most the table's ${table.shape[0]} positions, got ${length}`);

  const input = x.strides[3] === 1 || size <= 1 ? x : contiguous(x);
  const angles = contiguous(table);
  const first = starts && contiguous(starts);
  const given = positions && contiguous(positions);
  const out: FloatTensor = allocate(x.shape, x.dtype, x.device);
  const turn = (to: FloatTensor, from: FloatTensor, saved: Saved, inverse: boolean, accumulate: boolean): void => {
    const { angles, first, given } = saved;
    ops.rotary({
      out: to,
      inp: from,
      table: angles,
      starts: first,
      positions: given,
      interleaved,
      inverse,
      accumulate,
    });
  };
  const saved: Saved = { angles, first, given };
  turn(out, input, saved, false, false);
  record(op, out, [input], { ...saved }, ({ dout, gradient, saved }) => {
    const { out: dx, accumulate } = gradient(0);
    turn(dx, dout, saved, true, accumulate);
  });
  if (input !== x) input.dispose();
  if (angles !== table) angles.dispose();
  if (first !== starts) first?.dispose();
  if (given !== positions) given?.dispose();
  return out;
}

interface Saved {
  angles: FloatTensor;
  first: IntTensor | null;
  given: IntTensor | null;
}
