// A log with one JSON object on each line (jsonlines.org). Lines are only appended, each with one write. Several runs
// can therefore log to one file one after the other, and a killed process loses at most the line that it was writing.
import { closeSync, fstatSync, ftruncateSync, mkdirSync, openSync, readSync, writeFileSync } from "node:fs";
import path from "node:path";
import { HeedError } from "../util/errors.js";

/** Number of bytes at the end of a file that are searched for its last line; no line is longer. */
const tailLength = 1 << 16;

/** Largest number of characters that wait for a full disk to have room again. */
const patience = 1 << 20;

/** Log file with one JSON object on each line. */
export class JsonLog implements Disposable {
  readonly #fd: number;
  /** Lines that the disk had no room for. */
  #waiting = "";

  /**
   * Opens the log file, or creates it with its folder.
   *
   * @throws ERR_IO if that fails.
   */
  constructor(readonly file: string) {
    this.#fd = this.#guard(() => {
      mkdirSync(path.dirname(file), { recursive: true });
      return openSync(file, "a+");
    });
    this.#guard(() => endLastLine(this.#fd));
  }

  /**
   * Appends a line and hands it to the operating system before it returns. If the disk is full, the line waits in
   * memory and is written with the next one.
   *
   * @throws ERR_IO if the write fails; on a full disk only if more than 2²⁰ characters wait.
   */
  write(record: object): void {
    this.#waiting += `${JSON.stringify(record)}\n`;
    try {
      this.flush();
    } catch (error) {
      const full = ["ENOSPC", "EDQUOT"].includes(((error as HeedError).cause as NodeJS.ErrnoException).code!);
      if (!full || this.#waiting.length > patience) throw error;
    }
  }

  /**
   * Writes the lines that wait.
   *
   * @throws ERR_IO if the write fails.
   */
  flush(): void {
    if (this.#waiting === "") return;
    this.#guard(() => {
      const { size } = fstatSync(this.#fd);
      try {
        writeFileSync(this.#fd, this.#waiting);
      } catch (error) {
        // Removes the part of the text that still found room.
        ftruncateSync(this.#fd, size);
        throw error;
      }
    });
    this.#waiting = "";
  }

  [Symbol.dispose](): void {
    try {
      this.flush();
    } catch {
      // A caller that must know about a failure calls flush() itself, before.
    }
    closeSync(this.#fd);
  }

  #guard<T>(body: () => T): T {
    try {
      return body();
    } catch (cause) {
      throw new HeedError("ERR_IO", `${this.file}: ${(cause as Error).message}`, { cause });
    }
  }
}

/** Removes a line that a killed process left unfinished. Any other last line without a line end gets one. */
function endLastLine(fd: number): void {
  const { size } = fstatSync(fd);
  const tail = Buffer.alloc(Math.min(size, tailLength));
  readSync(fd, tail, 0, tail.length, size - tail.length);
  const line = tail.subarray(tail.lastIndexOf("\n") + 1);
  if (line.length === 0) return;
  if (line[0] === "{".charCodeAt(0) && !isJson(line.toString())) ftruncateSync(fd, size - line.length);
  else writeFileSync(fd, "\n");
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
