export const convertTypes = ["f32", "bf16", "f16", "q8_0", "q4_0"] as const;

export interface ConvertFlags {
  from: string;
  to: string;
  dtype: (typeof convertTypes)[number];
  force?: boolean;
}
