// Output of the log. What cannot be written waits and is written later: a full disk or a reader that is away must not
// end the server, as an error of the stream would. If more waits than may, further lines are lost, and the log says how
// many as soon as it can be written again.
import { write, writeSync } from "node:fs";
import { hostname } from "node:os";

/** Most characters that wait by default. */
const mostWaiting = 2 ** 22;
/** Characters that are written at once. */
const pieceLength = 2 ** 16;
/** Milliseconds after which a write is tried again: a pipe is soon emptied, and a disk is not. */
const pauses = { EAGAIN: 100, other: 1000 };

/** Output of a log to a file descriptor. Has the methods that pino calls. */
export class LogOutput {
  #waiting: string[] = [];
  #length = 0;
  #lost = 0;
  /** Bytes that are being written, or have to be tried again. */
  #piece = Buffer.alloc(0);
  #state: "idle" | "writing" | "pausing" | "closed" = "idle";

  /** Writes to a descriptor. At most `most` characters wait. */
  constructor(
    private readonly descriptor: number,
    private readonly most = mostWaiting,
  ) {}

  /** Writes a line as soon as possible. Never throws. */
  write(line: string): void {
    if (this.#state === "closed") return;
    if (this.#length + line.length > this.most) {
      this.#lost++;
      return;
    }
    this.#waiting.push(line);
    this.#length += line.length;
    if (this.#state === "idle") this.#send();
  }

  /** Writes what waits, at once, as far as that is possible. pino calls it before the process ends. */
  flushSync(): void {
    if (this.#state === "closed") return;
    // Another thread writes the piece.
    if (this.#state === "writing") this.#piece = Buffer.alloc(0);
    try {
      while (this.#fill()) this.#piece = this.#piece.subarray(writeSync(this.descriptor, this.#piece));
    } catch {
      // Nobody is left to whom the error could be told.
    }
  }

  #send(): void {
    if (!this.#fill()) {
      this.#state = "idle";
      return;
    }
    this.#state = "writing";
    const piece = this.#piece;
    write(this.descriptor, piece, (error, written) => {
      // flushSync has run meanwhile.
      const rest = piece === this.#piece ? piece.subarray(written ?? 0) : this.#piece;
      if (!error) {
        this.#piece = rest;
        this.#send();
      } else if (error.code === "EPIPE") {
        this.#state = "closed";
        this.#waiting = [];
      } else {
        this.#state = "pausing";
        const pause = error.code === "EAGAIN" ? pauses.EAGAIN : pauses.other;
        setTimeout(() => this.#send(), pause).unref();
      }
    });
  }

  /** Takes the next piece of what waits, unless there is one. Returns false if nothing is left. */
  #fill(): boolean {
    if (this.#piece.length > 0) return true;
    let count = 0;
    for (let length = 0; count < this.#waiting.length && length < pieceLength; count++)
      length += this.#waiting[count]!.length;
    const text = this.#waiting.splice(0, count).join("");
    this.#length -= text.length;
    this.#piece = Buffer.from(text + this.#loss());
    return this.#piece.length > 0;
  }

  /** Returns a line that says how many lines were lost, when the last of those before them is written. */
  #loss(): string {
    if (this.#lost === 0 || this.#waiting.length > 0) return "";
    const msg = `${this.#lost} lines of the log were lost, because they could not be written`;
    this.#lost = 0;
    return `${JSON.stringify({ level: 40, time: Date.now(), pid: process.pid, hostname: hostname(), msg })}\n`;
  }
}

let standard: LogOutput | null = null;

/** Returns the output of the log to the standard output of this process. */
export function standardLogOutput(): LogOutput {
  if (standard) return standard;
  const output = new LogOutput(1);
  process.once("exit", () => output.flushSync());
  return (standard = output);
}
