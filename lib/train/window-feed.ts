import type { Batch, Batches } from "../data/batches.js";
import { alone, type Feed, type Share } from "./feed.js";
import { advanced, type DataPosition, firstPosition, type ResumedRun } from "./position.js";

/**
 * Feed of windows of a stream of tokens, or of packed sequences. The micro-batches of all processes lie side by side in
 * the data. Epochs follow each
 * other within a batch.
 */
export class WindowFeed implements Feed<Batch> {
  position: DataPosition;
  readonly batchesPerEpoch: number;
  readonly #batches: Batches;
  readonly #share: Share;
  #peeked = 0;

  /**
   * @throws ERR_ARGUMENT if the data is cut into other sequences than before or comes in another order, unless `newData`
   *   is true.
   */
  constructor(batches: Batches, resumed: ResumedRun | null, newData: boolean, share: Share = alone) {
    this.#batches = batches;
    this.#share = share;
    this.position = firstPosition(batches, resumed, newData);
    this.batchesPerEpoch = batches.windows / (batches.batchSize * share.size);
  }

  get order(): string | null {
    return this.#batches.order;
  }

  get epoch(): number {
    return this.position.sequences / this.position.sequencesPerEpoch;
  }

  peek(count: number): Batch[] {
    const { batchSize } = this.#batches;
    const { rank, size } = this.#share;
    this.#peeked = count;
    return Array.from({ length: count }, (_, i) =>
      this.#batches.take(this.position.sequences + (i * size + rank) * batchSize, batchSize),
    );
  }

  advance(): void {
    this.position = advanced(this.position, this.#peeked * this.#share.size, this.#batches.batchSize);
    this.#peeked = 0;
  }

  close(): void {
    this.#peeked = 0;
  }
}
