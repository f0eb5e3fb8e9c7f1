/**
 * Code that tells a program what went wrong; the message tells a person.
 *
 * Every operation checks the tensors it gets and throws ERR_ARGUMENT for a value that is not a tensor, ERR_DISPOSED for
 * a disposed tensor, ERR_DEVICE for tensors on different devices, ERR_DTYPE for a wrong dtype and ERR_SHAPE for a wrong
 * shape. The docstrings of operations list only what is special about them.
 */
export type ErrorCode =
  /** A tensor's shape does not fit the operation. */
  | "ERR_SHAPE"
  /** A tensor's element type does not fit the operation. */
  | "ERR_DTYPE"
  /** Tensors are on different devices, or a device is not available. */
  | "ERR_DEVICE"
  /** A tensor was used after `dispose()`. */
  | "ERR_DISPOSED"
  /** A number (an option, an index, a token id) is outside its range. */
  | "ERR_RANGE"
  /** An argument has the wrong type or form. */
  | "ERR_ARGUMENT"
  /**
   * `backward()` was called for a tensor that was not recorded, or a second time, or a tensor that it needs was
   * overwritten.
   */
  | "ERR_AUTOGRAD"
  /** The device has no memory left. */
  | "ERR_OOM"
  /** The CUDA driver or device failed. */
  | "ERR_CUDA"
  /** A process of a distributed run has failed or differs from the others, or their library is missing. */
  | "ERR_DISTRIBUTED"
  /** A file is damaged or not in the expected format. */
  | "ERR_FORMAT"
  /** A file or folder cannot be read or written. */
  | "ERR_IO"
  /** Another process is writing to the folder, or an engine takes no more requests. */
  | "ERR_BUSY"
  /** A loss or a trained number is not finite, or the logits define no distribution. */
  | "ERR_DIVERGED"
  /** The native addon is missing or does not load. */
  | "ERR_NATIVE"
  /** heed itself has a defect. */
  | "ERR_INTERNAL";

/** Largest number of characters of a message. What it quotes may be a text of megabytes. */
const longestMessage = 4000;

/**
 * Error that heed throws: `code` is stable, and `message` says what was expected and what was given.
 *
 * @example
 * try {
 *   mul(x, tensor([1, 2, 3]));
 * } catch (error) {
 *   if (error instanceof HeedError) console.log(error.code); // ERR_SHAPE
 * }
 */
export class HeedError extends Error {
  override readonly name = "HeedError";

  constructor(
    /** Code that says what went wrong, for programs. */
    readonly code: ErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(shortened(message, longestMessage), options);
  }
}

/** Returns a text of at most `most` characters: of a longer one, its beginning and its end. */
export function shortened(text: string, most: number): string {
  if (text.length <= most) return text;
  const end = Math.floor(most / 4);
  return `${text.slice(0, most - end - 1)}…${text.slice(-end)}`.toWellFormed();
}

/** Returns an error as a HeedError: one that nobody expected shows a defect of heed itself, and is its cause. */
export function asHeedError(op: string, cause: unknown): HeedError {
  if (cause instanceof HeedError) return cause;
  const reason = cause instanceof Error ? `${cause.name}: ${cause.message}` : String(cause);
  return new HeedError("ERR_INTERNAL", `${op}: expected no failure of heed itself, got ${reason}`, { cause });
}

/** Returns the choices as a list for a message: "a, b or c". */
export function oneOf(choices: readonly unknown[]): string {
  return [choices.slice(0, -1).join(", "), choices.at(-1)].filter((part) => part !== "").join(" or ");
}

/** Returns a short description of a value for a message. It calls no code of the value itself. */
export function describe(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value);
  if (typeof value === "function") return "a function";
  if (value === null || typeof value !== "object") return String(value);
  return Array.isArray(value) ? `an array of ${value.length}` : "an object";
}
