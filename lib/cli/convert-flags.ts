/** The types in which `heed convert` can write numbers. */
export const convertTypes = ["f32", "bf16", "f16", "q8_0", "q4_0"] as const;

/** The flags of `heed convert`. */
export interface ConvertFlags {
  from: string;
  to: string;
  dtype: (typeof convertTypes)[number];
  force?: boolean;
}

/** The flags of `heed merge`. */
export interface MergeFlags extends Omit<ConvertFlags, "from"> {
  model: string;
  adapter?: string;
}
