// Requests to the hub. They carry the user's token, which only the hub itself receives, and are given up if the hub
// falls silent.
import { HubApiError } from "@huggingface/hub";
import { HeedError } from "../util/errors.js";

/** Settings that all requests for a model share. */
export interface HubRequest {
  repo: string;
  revision: string;
  hubUrl: string;
  token: string | undefined;
  signal: AbortSignal | undefined;
}

/**
 * Runs `body` with a `fetch` for the hub's library and returns its result.
 *
 * If nothing arrives for `patience` milliseconds, or if the user's signal is aborted, the requests are aborted and the
 * call rejects. It rejects even if `body` does not notice, which may then still be running. `body` calls `heard` after
 * other long work, to restart the time. In the end, all of its remaining requests are aborted.
 */
export async function asking<T>(
  { hubUrl, token, signal }: HubRequest,
  patience: number,
  body: (ask: typeof fetch, heard: () => void) => Promise<T>,
): Promise<T> {
  signal?.throwIfAborted();
  const controller = new AbortController();
  const { signal: over } = controller;
  const ended = new Promise<never>((_, reject) => {
    over.addEventListener("abort", () => reject(over.reason as Error), { once: true });
  });
  signal?.addEventListener("abort", () => controller.abort(signal.reason), { signal: over });
  const silent = (): void =>
    controller.abort(new Error(`the hub was silent for ${patience / 1000} s: the request was given up`));
  const timer = setTimeout(silent, patience);
  const heard = (): void => {
    if (!over.aborted) timer.refresh();
  };
  const hub = new URL(hubUrl).origin;
  const ask: typeof fetch = async (input, init) => {
    const headers = new Headers(init?.headers);
    // The library does not have the token. It also sends requests to addresses that the hub's answers give, with
    // credentials from these answers. If fetch is redirected to another origin, it drops the token by itself.
    const { origin } = new URL(input instanceof Request ? input.url : input);
    if (token !== undefined && origin === hub && !headers.has("authorization"))
      headers.set("authorization", `Bearer ${token}`);
    const response = await resending(() => fetch(input, { ...init, headers, signal: over }));
    heard();
    return listening(response, heard);
  };
  try {
    return await Promise.race([body(ask, heard), ended]);
  } finally {
    clearTimeout(timer);
    controller.abort();
  }
}

/**
 * Sends a request, which only reads, again if its connection breaks before an answer begins: the hub may have closed a
 * connection of an earlier request at the moment at which fetch used it again. That is no outage, for which an older
 * copy would be taken.
 */
async function resending(send: () => Promise<Response>): Promise<Response> {
  for (let attempt = 1; ; attempt++)
    try {
      return await send();
    } catch (error) {
      const { code } = ((error as Error).cause ?? {}) as NodeJS.ErrnoException;
      if (attempt === 3 || !["UND_ERR_SOCKET", "ECONNRESET", "EPIPE"].includes(code ?? "")) throw error;
    }
}

/** Returns a response that equals the given one and calls `heard` for every piece of its body that arrives. */
function listening(response: Response, heard: () => void): Response {
  if (!response.body) return response;
  const ears = new TransformStream<Uint8Array, Uint8Array>({
    transform(bytes, controller) {
      heard();
      controller.enqueue(bytes);
    },
  });
  const { status, statusText, headers, url } = response;
  const same = new Response(response.body.pipeThrough(ears), { status, statusText, headers });
  // The library reads the response's URL, which no constructor accepts.
  return Object.defineProperty(same, "url", { value: url });
}

/** Returns true if an error means that the hub cannot be reached or is out of order, rather than that it refuses. */
export function isOutage(error: unknown): boolean {
  if (error instanceof HeedError) return false;
  return !(error instanceof HubApiError) || error.statusCode >= 500 || [408, 429].includes(error.statusCode);
}

/** Returns true if an error is the hub's answer that there is no such model, or none that this user may see. */
export function isMissing(error: unknown): boolean {
  return error instanceof HubApiError && [401, 403, 404, 410].includes(error.statusCode);
}

/**
 * Returns what went wrong, in words. The cause of fetch's error says more than its message, and a stream may end with a
 * string instead of an error.
 */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? `${error.message} (${error.cause.message})` : error.message;
}
