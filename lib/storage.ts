/** @internal Memory that tensors share: a tensor, its views and what a graph saved of them. */
export class Storage {
  /** Number of tensors that are made of this memory: aliases, views, and what a graph has saved. */
  references = 0;
  /** How often elements have been overwritten. What is kept beside the memory says of which version it is. */
  version = 0;
}
