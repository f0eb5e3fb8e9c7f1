import { closeSync, mkdirSync, openSync, writeSync } from "node:fs";
import path from "node:path";
import { HeedError } from "./errors.js";

/**
 * A file that is written record by record, each by one call where the system takes it whole, so that a killed process
 * leaves at most one that is unfinished.
 */
export class FileWriter implements Disposable {
  readonly #file: string;
  readonly #fd: number;

  /**
   * Opens a file, and creates its folder if it does not exist. `flags` are those of Node.js: "w" replaces a file, "ax" must
   * create it.
   *
   * @throws ERR_IO if that fails.
   */
  constructor(file: string, flags: "w" | "ax") {
    this.#file = file;
    this.#fd = this.#guard(() => {
      mkdirSync(path.dirname(file), { recursive: true });
      return openSync(file, flags);
    });
  }

  /**
   * Writes a record behind what was written before.
   *
   * @throws ERR_IO if that fails.
   */
  write(record: Uint8Array): void {
    this.#guard(() => {
      for (let at = 0; at < record.length;) at += writeSync(this.#fd, record, at);
    });
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }

  #guard<T>(body: () => T): T {
    try {
      return body();
    } catch (cause) {
      throw new HeedError("ERR_IO", `${this.#file}: ${(cause as Error).message}`, { cause });
    }
  }
}
