/** Tensors on the software device, and the end of its work, for the cases. */
import { cast, device, type FloatTensor, randn, scope } from "heed";
import type { KernelCase } from "./case.js";

export type DType = KernelCase["dtype"];

export const cuda = () => device("cuda");

export function floats(shape: number[], dtype: DType, seed: number): FloatTensor {
  const values = randn(shape, { seed, device: cuda() });
  if (dtype === "f32") return values;
  return scope(() => cast(values, dtype));
}

export const done = (): Promise<void> => cuda().synchronize();
