// Limits what a template may do. Templates come with models from strangers, and rendering is synchronous, so a hostile
// template could block the event loop or exhaust memory. The interpreter charges for each node that it evaluates and
// for each value that an operation visits; the unit of work is about one small node (0.1 µs). An operation that makes a
// text is refused before it runs, or while it runs, if the text becomes too long.
import { HeedError } from "../../util/errors.js";

/** Maximum depth to which the parts of a template, calls of its macros, and values may be nested. */
export const maxDepth = 256;
export const maxSourceLength = 2 ** 18;
/** Maximum length of range(), the same as in the sandbox of Python's Jinja2. */
const maxRange = 100_000;
/** Maximum number of bits of an integer. */
const maxBits = 2 ** 15;

/**
 * Checks that a template is short enough to be parsed.
 *
 * @throws ERR_FORMAT if it is too long.
 */
export function checkSource(source: string): void {
  if (source.length > maxSourceLength)
    throw new HeedError("ERR_FORMAT", `expected at most ${maxSourceLength} characters, got ${source.length}`);
}

/** Thrown by a rendering that may only be short, and is not. */
export class LongWork extends Error {
  override readonly name = "LongWork";
}

/** The limits of one rendering. More input allows more work and more text. */
export class Bounds {
  readonly #maxWork: number;
  /** Work after which the rendering is given up. */
  readonly #longWork: number;
  readonly #maxLength: number;
  #work = 0;
  #written = 0;
  #depth = 0;

  /**
   * Creates the limits for `input`, which is what the caller gives for the rendering. Work beyond `longWork` throws
   * `LongWork`.
   */
  constructor(input: unknown, longWork = Infinity) {
    this.#longWork = longWork;
    const { values, characters } = measure(input);
    this.#maxWork = 2e6 + 500 * values + 8 * characters;
    this.#maxLength = 2 ** 20 + 2000 * values + 32 * characters;
  }

  /**
   * Charges for work.
   *
   * @throws ERR_RANGE if more work has been done than the input allows.
   */
  spend(work: number): void {
    this.#work += work;
    if (this.#work > this.#maxWork)
      throw new HeedError("ERR_RANGE", `expected at most ${this.#maxWork} steps for input of this size, got more`);
    if (this.#work > this.#longWork) throw new LongWork("the rendering takes long");
  }

  /**
   * Checks the length of a text that is about to be made.
   *
   * @throws ERR_RANGE if it is longer than the input allows.
   */
  checkLength(length: number): void {
    if (length > this.#maxLength)
      throw new HeedError(
        "ERR_RANGE",
        `expected at most ${this.#maxLength} characters of text for input of this size, got more`,
      );
  }

  /** Checks the length of a list that is about to be made. */
  checkItems(length: number): void {
    if (length > this.#maxLength)
      throw new HeedError(
        "ERR_RANGE",
        `expected lists of at most ${this.#maxLength} items for input of this size, got more`,
      );
  }

  /** Counts characters that are written, by a macro as well. */
  write(length: number): void {
    this.#written += length;
    this.checkLength(this.#written);
  }

  /** Checks the number of bits of an integer that is about to be made. */
  checkBits(bits: number): void {
    if (bits > maxBits) throw new HeedError("ERR_RANGE", `expected integers of at most ${maxBits} bits, got more`);
    this.spend(bits / 64);
  }

  /** Checks the length of a range(). */
  checkRange(length: number): void {
    if (length > maxRange)
      throw new HeedError("ERR_RANGE", `expected a range() of at most ${maxRange} numbers, got ${length}`);
  }

  /** Checks the depth of a value that is visited. */
  checkDepth(depth: number): void {
    if (depth > maxDepth) throw new HeedError("ERR_RANGE", `expected values nested at most ${maxDepth} deep`);
  }

  /** Runs the body of a macro or a loop that calls itself. */
  nested<T>(body: () => T): T {
    if (++this.#depth > maxDepth) throw new HeedError("ERR_RANGE", `expected calls nested at most ${maxDepth} deep`);
    try {
      return body();
    } finally {
      this.#depth--;
    }
  }
}

/** Counts the values and the characters in a template's input. */
function measure(input: unknown): { values: number; characters: number } {
  if (typeof input === "string") return { values: 1, characters: input.length };
  const total = { values: 1, characters: 0 };
  if (typeof input !== "object" || input === null) return total;
  const entries = input instanceof Map ? (input as Map<unknown, unknown>) : Object.entries(input);
  for (const [name, value] of entries) {
    const { values, characters } = measure(value);
    total.values += values;
    total.characters += characters + String(name).length;
  }
  return total;
}
