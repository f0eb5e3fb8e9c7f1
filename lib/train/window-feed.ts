import type { Batch, Batches } from "./batches.js";
import type { Feed } from "./feed.js";
import { advanced, type BatchPosition, type DataPosition, firstPosition } from "./position.js";

/** Feed of windows of a stream of tokens, or of packed sequences. Epochs follow each other within a batch. */
export class WindowFeed implements Feed<Batch> {
  position: DataPosition;
  readonly batchesPerEpoch: number;
  readonly #batches: Batches;
  #peeked = 0;

  /**
   * @throws ERR_ARGUMENT if the data is cut into other sequences than before, unless `newData` is true.
   */
  constructor(
    batches: Batches,
    resumed: { step: number; position?: DataPosition | BatchPosition | null } | null,
    newData: boolean,
  ) {
    this.#batches = batches;
    this.position = firstPosition(batches, resumed, newData);
    this.batchesPerEpoch = batches.windows / batches.batchSize;
  }

  get epoch(): number {
    return this.position.sequences / this.position.sequencesPerEpoch;
  }

  peek(count: number): Batch[] {
    const { batchSize } = this.#batches;
    this.#peeked = count;
    return Array.from({ length: count }, (_, i) =>
      this.#batches.take(this.position.sequences + i * batchSize, batchSize),
    );
  }

  advance(): void {
    this.position = advanced(this.position, this.#peeked, this.#batches.batchSize);
    this.#peeked = 0;
  }

  close(): void {
    this.#peeked = 0;
  }
}
