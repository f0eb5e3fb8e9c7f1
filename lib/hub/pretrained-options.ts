/** Looks into the folder of a model that has all but its weights; what it throws ends the download. */
export type Inspection = (folder: string) => Promise<unknown>;

export interface DownloadProgress {
  /** The file that is being downloaded. */
  file: string;
  /** Bytes of it that are there, and all. */
  received: number;
  size: number;
  /** The same of all files together. */
  receivedInAll: number;
  sizeInAll: number;
}

export interface PretrainedOptions {
  /** Names the branch, tag or commit to download. @default "main" */
  revision?: string;
  /**
   * Whether to ask nothing of the hub and take what is in the cache. @default true where HF_HUB_OFFLINE is 1, true, yes
   * or on
   */
  offline?: boolean;
  /** The cache's folder. @default HF_HUB_CACHE, or ~/.cache/huggingface/hub */
  cacheDir?: string;
  /** The hub's address. @default HF_ENDPOINT, or https://huggingface.co */
  hubUrl?: string;
  /** The token for models that are not public. No other host than the hub's gets it. @default HF_TOKEN */
  accessToken?: string;
  /** Selects the files to download. @default configurations, tokenizers and safetensors weights */
  files?: (name: string) => boolean;
  onProgress?: (progress: DownloadProgress) => void;
  signal?: AbortSignal | undefined;
}
