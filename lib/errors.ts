/** What went wrong, as a program reads it. The message says it to a person. */
export type ErrorCode =
  /** A tensor's shape does not fit the operation. */
  | "ERR_SHAPE"
  /** A tensor's element type does not fit the operation. */
  | "ERR_DTYPE"
  /** Tensors of different devices, or a device that is not there. */
  | "ERR_DEVICE"
  /** A tensor used after `dispose()`. */
  | "ERR_DISPOSED"
  /** A number outside its range (an option, an index, a token id). */
  | "ERR_RANGE"
  /** An argument of the wrong type or form. */
  | "ERR_ARGUMENT"
  /** `backward()` on what was not recorded, or twice. */
  | "ERR_AUTOGRAD"
  /** Memory exhausted on the device. */
  | "ERR_OOM"
  /** The CUDA driver or device failed. */
  | "ERR_CUDA"
  /** A file that is not what it claims to be. */
  | "ERR_FORMAT"
  /** A file or folder that cannot be read or written. */
  | "ERR_IO"
  /** A folder that another process writes to. */
  | "ERR_BUSY"
  /** A loss or a trained number that is not finite, or logits that have no distribution. */
  | "ERR_DIVERGED"
  /** The native addon is missing or does not load. */
  | "ERR_NATIVE"
  /** A defect of heed itself. */
  | "ERR_INTERNAL";

/** The one error class of heed: `code` is stable, `message` says what was expected and what was given. */
export class HeedError extends Error {
  override readonly name = "HeedError";

  constructor(
    readonly code: ErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** A value, shortly, for a message. Calls nothing that the value brings along. */
export function describe(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value);
  if (typeof value === "function") return "a function";
  if (value === null || typeof value !== "object") return String(value);
  return Array.isArray(value) ? `an array of ${value.length}` : "an object";
}
