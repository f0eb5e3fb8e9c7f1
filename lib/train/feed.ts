import type { BatchPosition, DataPosition } from "./position.js";

/** One of the processes that read the same data. */
export interface Share {
  /** Number of the process, counted from 0. */
  readonly rank: number;
  /** Number of processes. */
  readonly size: number;
}

/** A process that reads all of the data. */
export const alone: Share = { rank: 0, size: 1 };

/** Source of the micro-batches of a training run, which knows how far the run has read. */
export interface Feed<B> {
  /** Resolves to the next `count` micro-batches of this process, without moving on: a second call gives the same ones. */
  peek(count: number): Promise<readonly B[]> | readonly B[];
  /** Moves past the micro-batches that were peeked at last, and past those of the other processes. */
  advance(): void;
  /** Position after the last micro-batch that was passed. */
  readonly position: DataPosition | BatchPosition;
  /** Text that tells the order of the data apart from others; null if only the caller knows it. */
  readonly order: string | null;
  /** Number of epochs read; with their share of the present one if the length of an epoch is known. */
  readonly epoch: number;
  /** Number of micro-batches in an epoch of each process; null if it is unknown. */
  readonly batchesPerEpoch: number | null;
  /** Frees what the feed holds open. */
  close(): void;
}
