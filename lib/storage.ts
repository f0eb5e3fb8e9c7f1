/** @internal Memory that tensors share: a tensor, its views and what a graph saved of them. */
export class Storage {
  /** How often elements have been overwritten. What is kept beside the memory says of which version it is. */
  version = 0;
}
