// Options of functions that may download a model from the hub. The module imports nothing, so that their callers do not
// load the hub's library.
/** Checks the folder of a model whose weights have not been downloaded yet. If it throws, the download ends. */
export type Inspection = (folder: string) => Promise<unknown>;

/** Progress of a download. */
export interface DownloadProgress {
  /** Name of the file that is being downloaded. */
  file: string;
  /** Number of its bytes that have arrived. */
  received: number;
  /** Size of the file in bytes. */
  size: number;
  /** Number of bytes of all files that have arrived. */
  receivedInAll: number;
  /** Size of all files in bytes. */
  sizeInAll: number;
}

/** Options of models that may be on the hub. */
export interface PretrainedOptions {
  /** Branch, tag or commit to download. @default "main" */
  revision?: string;
  /**
   * Uses only what is in the cache and asks nothing of the hub.
   * @default true if HF_HUB_OFFLINE is 1, true, yes or on
   */
  offline?: boolean;
  /** Folder of the cache. @default HF_HUB_CACHE, or ~/.cache/huggingface/hub */
  cacheDir?: string;
  /** Address of the hub. @default HF_ENDPOINT, or https://huggingface.co */
  hubUrl?: string;
  /** Token for models that are not public. It is sent to no host other than the hub. @default HF_TOKEN */
  accessToken?: string;
  /** Returns true for the files to download. @default configurations, tokenizers and safetensors weights */
  files?: (name: string) => boolean;
  /** Called as bytes arrive, and once for each file that the cache has already. */
  onProgress?: (progress: DownloadProgress) => void;
  /** Aborts the download. */
  signal?: AbortSignal | undefined;
}
