// A log of one JSON object a line (jsonlines.org). Lines are only ever added, each in one write, so that any number of
// runs may follow each other in one file and a killed process costs at most the line it was writing.
import { closeSync, fstatSync, ftruncateSync, mkdirSync, openSync, readSync, writeFileSync } from "node:fs";
import path from "node:path";
import { HeedError } from "../errors.js";

/** More than a line can have. */
const tailLength = 1 << 16;

/** So many characters may wait for a full disk to have room again. */
const patience = 1 << 20;

export class JsonLog implements Disposable {
  readonly #fd: number;
  /** Lines that the disk had no room for. */
  #waiting = "";

  /** Opens the log, or begins one. Throws ERR_IO. */
  constructor(readonly file: string) {
    this.#fd = this.#guard(() => {
      mkdirSync(path.dirname(file), { recursive: true });
      return openSync(file, "a+");
    });
    this.#guard(() => endLastLine(this.#fd));
  }

  /**
   * Adds a line; it is in the operating system's hands when this returns, unless the disk is full: then it waits for the
   * next one. Throws ERR_IO, on a full disk when more than a megabyte waits.
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

  /** Writes what waits. Throws ERR_IO. */
  flush(): void {
    if (this.#waiting === "") return;
    this.#guard(() => {
      const { size } = fstatSync(this.#fd);
      try {
        writeFileSync(this.#fd, this.#waiting);
      } catch (error) {
        // The part of it that there was room for.
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
      // Who has to know has called flush.
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

/** Takes away the line that a killed process left unfinished; any other text without a line end gets one. */
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
