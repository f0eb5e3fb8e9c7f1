// Requests to the hub: with the user's token, which only the hub itself gets, and given up where the hub falls silent.
import { HubApiError } from "@huggingface/hub";
import { HeedError } from "../errors.js";

/** What every request to the hub is made with. */
export interface HubRequest {
  repo: string;
  revision: string;
  hubUrl: string;
  token: string | undefined;
  signal: AbortSignal | undefined;
}

/**
 * Runs `body` with a `fetch` for the hub's library. Its requests are aborted, and the call rejects, once nothing has come
 * for `patience` milliseconds or the user's signal is aborted, even where `body` does not notice: it may then still be
 * running. `heard` is for `body` to call when it has done something else for long. At the end what is left of its
 * requests is aborted.
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
    // The library, which does not have the token, also asks where answers tell it to, with what they give it to show
    // there. Where fetch is redirected to another origin, it drops the token by itself.
    const { origin } = new URL(input instanceof Request ? input.url : input);
    if (token !== undefined && origin === hub && !headers.has("authorization"))
      headers.set("authorization", `Bearer ${token}`);
    const response = await fetch(input, { ...init, headers, signal: over });
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

/** The same response, which tells of every piece of its body that comes. */
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
  // The library reads the address that answered, which no constructor takes.
  return Object.defineProperty(same, "url", { value: url });
}

/** Whether an error says that the hub cannot be reached or is out of order, rather than that it refuses. */
export function isOutage(error: unknown): boolean {
  if (error instanceof HeedError) return false;
  return !(error instanceof HubApiError) || error.statusCode >= 500 || [408, 429].includes(error.statusCode);
}

/** What went wrong, in words: what fetch found is the cause of its error, and what ends a stream may be a text. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? `${error.message} (${error.cause.message})` : error.message;
}
