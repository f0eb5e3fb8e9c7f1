/** The progress of saving a model. */
export interface SaveProgress {
  /** Number of tensors that have been written. */
  written: number;
  /** Number of tensors that the model's files have. */
  total: number;
}
