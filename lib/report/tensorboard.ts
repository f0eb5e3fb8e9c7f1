import { checkInteger, checkNumber, checkValues } from "../util/check.js";
import { describe, HeedError } from "../util/errors.js";
import type { StepEvent, TrainerEvent } from "../train/events.js";
import { EventFile } from "./event-file.js";
import { histogramOf } from "./histogram.js";
import { bytesField, doubleField, doublesField, floatField, integerField } from "./protobuf.js";

/** Options of a `TensorBoard`. */
export interface TensorBoardOptions {
  /**
   * Number of steps that were done before. A run that is resumed passes the step of its checkpoint: TensorBoard then
   * forgets what was written for later steps.
   *
   * @default 0
   */
  step?: number;
}

/**
 * Writes event files that TensorBoard shows: numbers, texts and histograms over the steps of a run.
 *
 * @example
 * const data = tokenData(tokenizer.encode("to be or not to be ".repeat(20)));
 * using trainer = new Trainer({ model: gpt, data, batchSize: 2, steps: 3 });
 * using board = new TensorBoard("board/first", { step: trainer.step });
 * for await (const event of trainer.run()) board.event(event);
 */
export class TensorBoard implements Disposable {
  readonly #file: EventFile;

  /**
   * Begins an event file in a folder. TensorBoard shows each folder with event files as a run.
   *
   * @throws ERR_IO if the file cannot be created.
   */
  constructor(folder: string, { step = 0 }: TensorBoardOptions = {}) {
    if (typeof folder !== "string" || folder === "")
      throw new HeedError("ERR_ARGUMENT", `TensorBoard: expected a folder, got ${describe(folder)}`);
    checkInteger("TensorBoard", "step", step, 0);
    this.#file = new EventFile(folder);
    // A session that starts at a step replaces what an earlier one wrote from that step on.
    if (step > 0) this.#file.write(step + 1, bytesField(7, integerField(1, 1)));
  }

  /** Path of the event file. */
  get file(): string {
    return this.#file.file;
  }

  /**
   * Adds a number to the curve of a name, such as "loss/train".
   *
   * @throws ERR_IO if the file cannot be written.
   */
  scalar(name: string, value: number, step: number): void {
    this.scalars({ [name]: value }, step);
  }

  /**
   * Adds numbers to the curves of several names.
   *
   * @throws ERR_IO if the file cannot be written.
   */
  scalars(values: Readonly<Record<string, number>>, step: number): void {
    const parts = Object.entries(values).map(([name, value]) => {
      checkName(name);
      if (typeof value !== "number") checkNumber("TensorBoard", name, value);
      return this.#value(name, floatField(2, value));
    });
    this.#write(step, parts);
  }

  /**
   * Adds a text in Markdown, such as a sample.
   *
   * @throws ERR_IO if the file cannot be written.
   */
  text(name: string, text: string, step: number): void {
    checkName(name);
    if (typeof text !== "string")
      throw new HeedError("ERR_ARGUMENT", `TensorBoard: expected a text, got ${describe(text)}`);
    // A tensor of one string, which the plugin "text" shows.
    const tensor = bytesField(
      8,
      integerField(1, 7),
      bytesField(2, bytesField(2, integerField(1, 1))),
      bytesField(8, text),
    );
    const metadata = bytesField(9, bytesField(1, bytesField(1, "text")));
    this.#write(step, [this.#value(name, tensor, metadata)]);
  }

  /**
   * Adds the distribution of numbers, such as a layer's weights.
   *
   * @throws ERR_ARGUMENT if there are no numbers; ERR_IO if the file cannot be written.
   */
  histogram(name: string, values: ArrayLike<number>, step: number): void {
    checkName(name);
    checkValues("TensorBoard", values);
    const { min, max, count, sum, squares, limits, counts } = histogramOf(values);
    const fields = [min, max, count, sum, squares].map((value, i) => doubleField(i + 1, value));
    const histogram = bytesField(5, ...fields, doublesField(6, limits), doublesField(7, counts));
    this.#write(step, [this.#value(name, histogram)]);
  }

  /** Writes what an event of a trainer says: losses, learning rate, the norm of the gradients, and speed. */
  event(event: TrainerEvent): void {
    if (event.type === "step") this.scalars(numbersOf(event), event.step);
    if (event.type === "evaluation")
      this.scalars({ "loss/validation": event.loss, "perplexity/validation": event.perplexity }, event.step);
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }

  #value(name: string, ...fields: readonly Uint8Array[]): Buffer {
    return bytesField(1, bytesField(1, name), ...fields);
  }

  #write(step: number, values: readonly Uint8Array[]): void {
    checkInteger("TensorBoard", "step", step, 0);
    this.#file.write(step, bytesField(5, ...values));
  }
}

function numbersOf({ loss, lr, gradientNorm, tokensPerSecond }: StepEvent): Record<string, number> {
  return {
    "loss/train": loss,
    "learning rate": lr,
    ...(gradientNorm === null ? {} : { "gradient norm": gradientNorm }),
    "tokens per second": tokensPerSecond,
  };
}

function checkName(name: unknown): void {
  if (typeof name !== "string" || name === "")
    throw new HeedError("ERR_ARGUMENT", `TensorBoard: expected a name, got ${describe(name)}`);
}
