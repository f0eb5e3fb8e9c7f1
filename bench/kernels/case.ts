/** A case that the software device runs and counts. */
export interface KernelCase {
  /** Name, such as "layer norm forward". A child process gets it to find the case. */
  name: string;
  /** Shape as the report shows it: "512×768". */
  shape: string;
  dtype: "f32" | "bf16";
  /** Pattern of the names of the kernels that the case is about. Other kernels prepare. */
  kernels: RegExp;
  /** Number of bytes that must at least be read and written. */
  least?: { loads: number; stores: number };
  /** Number of multiply-adds of the product, if no tensor cores do them. */
  multiplyAdds?: number;
  /** Limits that the figures must keep to. */
  targets?: Targets;
  /** Number of launches that do not belong to the case, such as those of a forward pass before a backward one. */
  besides?: number;
  run(): Promise<void>;
}

export interface Targets {
  /** Largest ratio of the bytes moved to the least possible. */
  bytes?: number;
  /** Largest ratio of wavefronts of shared memory to the ideal. */
  wavefronts?: number;
  /** Largest ratio of sectors of global loads to the ideal. */
  loadSectors?: number;
  launches?: number;
  /** Least share of matrix instructions, or of multiply-adds, in all warp instructions. */
  share?: number;
}

/** Counts of the software device for one kernel; native/simulator/counters.h explains them. */
export interface Counters {
  launches: number;
  instructions: number;
  mma: number;
  global_load_sectors: number;
  global_store_sectors: number;
  global_load_sectors_ideal: number;
  global_store_sectors_ideal: number;
  unique_load_bytes: number;
  unique_store_bytes: number;
  shared_wavefronts: number;
  shared_wavefronts_ideal: number;
  dynamic_shared_bytes: number;
}
