// Errors in OpenAI's form: {"error": {"message", "type", "param", "code"}} with an HTTP status.
import { BusyError } from "../engine/busy-error.js";
import { type ErrorCode, HeedError, shortened } from "../util/errors.js";

/** Fields of an `ApiError` besides its message. */
export interface ApiErrorFields {
  /** Name of the error for programs, such as "context_length_exceeded". @default null */
  code?: string | null;
  /** Name of the parameter that is wrong. @default null */
  param?: string | null;
  /** Number of seconds after which the client may try again. @default none */
  retryAfter?: number;
}

/** Largest numbers of characters of what a client gets and the log says: what they quote may be a text of megabytes. */
const longest = { message: 1000, param: 200 };

/** Error that a client gets as an HTTP status and a body in OpenAI's form. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  /** Class of the error, by its status. */
  readonly type: string;
  readonly code: string | null;
  readonly param: string | null;
  readonly retryAfter: number | null;

  constructor(
    /** HTTP status. */
    readonly status: number,
    message: string,
    { code = null, param = null, retryAfter }: ApiErrorFields = {},
    options?: ErrorOptions,
  ) {
    super(shortened(message, longest.message), options);
    this.type = typeOf(status);
    this.code = code;
    this.param = param && shortened(param, longest.param);
    this.retryAfter = retryAfter ?? null;
  }

  /** Body of the answer. */
  get body(): { error: { message: string; type: string; param: string | null; code: string | null } } {
    const { message, type, param, code } = this;
    return { error: { message, type, param, code } };
  }
}

function typeOf(status: number): string {
  if (status === 401) return "authentication_error";
  if (status === 429) return "rate_limit_error";
  return status < 500 ? "invalid_request_error" : "server_error";
}

/** Returns the error that a client gets for any error. What is not the client's fault says nothing about its cause. */
export function apiErrorOf(cause: unknown): ApiError {
  if (cause instanceof ApiError) return cause;
  if (cause instanceof HeedError) return ofHeed(cause);
  const { statusCode, message, code } = Object(cause) as { statusCode?: unknown; message?: string; code?: string };
  if (typeof statusCode === "number" && statusCode >= 400 && statusCode < 500)
    return new ApiError(statusCode, message ?? "The request is invalid.", { code: nameOf(code) }, { cause });
  return failed(cause);
}

/** Codes of errors about what the client has sent. */
const invalid: readonly ErrorCode[] = ["ERR_ARGUMENT", "ERR_RANGE", "ERR_SHAPE"];

function ofHeed(cause: HeedError): ApiError {
  const { code, message } = cause;
  if (invalid.includes(code)) return new ApiError(400, message, { code: "invalid_value" }, { cause });
  if (code === "ERR_BUSY") return busy(cause instanceof BusyError ? cause.retryAfter : 1, cause);
  if (code === "ERR_DIVERGED") return new ApiError(500, message, { code: "diverged" }, { cause });
  if (code === "ERR_OOM")
    return new ApiError(503, "The device has no memory left.", { code: "out_of_memory", retryAfter: 1 }, { cause });
  return failed(cause);
}

function failed(cause: unknown): ApiError {
  return new ApiError(500, "The server failed. Its log says why.", { code: "internal_error" }, { cause });
}

/** Returns true if an error says that there is no room for a request now. */
export function isBusy({ status, code }: ApiError): boolean {
  return status === 503 && code === "overloaded";
}

/** Returns the error of a request for which there is no room now. */
export function busy(seconds: number, cause?: unknown): ApiError {
  const message = "The server has too many requests. Try again later.";
  const retryAfter = Math.max(1, Math.ceil(seconds));
  return new ApiError(503, message, { code: "overloaded", retryAfter }, { cause });
}

/** Returns a name in OpenAI's style for the code of an error of fastify, such as FST_ERR_CTP_BODY_TOO_LARGE. */
function nameOf(code: string | undefined): string | null {
  return code?.replace(/^FST_(ERR_)?(CTP_)?/, "").toLowerCase() ?? null;
}
