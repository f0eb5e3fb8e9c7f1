/** @internal The memory of a tensor, which its views share. */
export class Storage {
  /** Number of tensors that are made of this memory: aliases, views, and what a graph has saved. */
  references = 0;
}
