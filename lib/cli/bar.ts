import { clearLine, cursorTo } from "node:readline";

/** Most characters of a bar, and fewest, to which it shrinks if the text needs the room. */
const [widest, narrowest] = [20, 4];
/** Minimum number of milliseconds between two drawings, so that a terminal does not slow down the work. */
const interval = 100;

/** A bar of progress with a text, which is drawn again in its line of a terminal. */
export class Bar {
  #shown: { share: number; text: string } | null = null;
  #drawn = -Infinity;
  #width = widest;

  constructor(private readonly terminal: NodeJS.WriteStream = process.stdout) {}

  /** Shows a share from 0 to 1 with a text about it. */
  show(share: number, text: string): void {
    this.#shown = { share, text };
    if (performance.now() - this.#drawn >= interval) this.#draw();
  }

  /** Writes a line above the bar. */
  note(text: string): void {
    this.#clear();
    this.terminal.write(`${text}\n`);
    this.#draw();
  }

  /** Leaves the bar as it was shown last. */
  end(): void {
    if (this.#shown === null) return;
    this.#draw();
    this.terminal.write("\n");
  }

  #draw(): void {
    this.#drawn = performance.now();
    this.#clear();
    if (this.#shown === null) return;
    const { share, text } = this.#shown;
    // A line that wraps could not be drawn again in place. A terminal that does not say its width says 0.
    const room = (this.terminal.columns || 80) - 1;
    // It does not grow again, so that it does not jump.
    this.#width = Math.max(narrowest, Math.min(this.#width, room - 1 - text.length));
    const full = Math.floor(this.#width * share);
    this.terminal.write(`${"█".repeat(full)}${"░".repeat(this.#width - full)} ${text}`.slice(0, room));
  }

  #clear(): void {
    cursorTo(this.terminal, 0);
    clearLine(this.terminal, 0);
  }
}

/** Returns a bar that counts things, such as "tensors". It shows nothing unless stdout is a terminal. */
export function createBar(things: string): { show: (done: number, all: number) => void; end: () => void } {
  if (!process.stdout.isTTY) return { show: () => undefined, end: () => undefined };
  const bar = new Bar();
  return {
    show: (done, all) => bar.show(all === 0 ? 1 : done / all, `${done} of ${all} ${things}`),
    end: () => bar.end(),
  };
}
