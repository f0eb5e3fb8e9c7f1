/** One thing to look at on the software device. */
export interface KernelCase {
  /** "layer norm forward": also what a child process is started with. */
  name: string;
  /** For people: "512×768". */
  shape: string;
  dtype: "f32" | "bf16";
  /** Which kernels are meant; others prepare. */
  kernels: RegExp;
  /** Bytes that must be read and written at least. */
  least?: { loads: number; stores: number };
  /** Multiply-adds of the product, where no tensor cores do them. */
  multiplyAdds?: number;
  /** What the figures must keep to. */
  targets?: Targets;
  /** Launches of the run that are not meant: a forward pass before the backward one, say. */
  besides?: number;
  run(): Promise<void>;
}

export interface Targets {
  /** Bytes moved / least. */
  bytes?: number;
  /** Shared-memory wavefronts / ideal. */
  wavefronts?: number;
  /** Sectors of global loads / ideal. */
  loadSectors?: number;
  launches?: number;
  /** Least share of matrix instructions, or of multiply-adds, in all warp instructions. */
  share?: number;
}

/** What the software device counted for one kernel; see native/simulator/counters.h. */
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
