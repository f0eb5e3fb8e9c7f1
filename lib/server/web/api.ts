// The server's routes, as the page asks them. The page may lie under a prefix, and the routes lie beside it.
import { eventData } from "./events.js";
import { type ChatLogprobs, type Piece, piecesOf, type TextLogprobs, tokensOf } from "./tokens.js";

/** A model, and the routes that it answers. */
export interface Model {
  id: string;
  routes: string[];
}

/** A part of an answer. */
export interface Part {
  pieces: Piece[];
  /** Number of tokens of the part. It is exact only if the request asks for probabilities. */
  tokens: number;
  finishReason: "stop" | "length" | null;
  usage: { prompt_tokens: number; completion_tokens: number } | null;
}

/** An error that the server answered, or that kept it from answering. Its message is for the reader of the page. */
export class ServerError extends Error {
  constructor(
    message: string,
    /** HTTP status, or null if there is none. */
    readonly status: number | null = null,
  ) {
    super(message);
  }
}

interface Chunk {
  choices: {
    text?: string;
    delta?: { content?: string };
    logprobs: ChatLogprobs | TextLogprobs | null;
    finish_reason: Part["finishReason"];
  }[];
  usage?: Part["usage"];
  error?: { message: string };
}

const base = location.pathname.replace(/\/*$/, "/");
let key = "";

/** Sets the API key that the requests give; an empty one is none. */
export function useKey(given: string): void {
  key = given;
}

/** Resolves to the models of the server. */
export async function listModels(): Promise<Model[]> {
  const response = await ask("v1/models");
  return ((await response.json()) as { data: Model[] }).data;
}

/** Sends a request for a completion to a route, such as "v1/completions", and yields the parts of the answer. */
export async function* answer(route: string, body: object, signal: AbortSignal): AsyncGenerator<Part, void, undefined> {
  const streamed = { ...body, stream: true, stream_options: { include_usage: true } };
  const response = await ask(route, {
    ...{ method: "POST", body: JSON.stringify(streamed), signal },
    headers: { "content-type": "application/json" },
  });
  for await (const data of eventData(response.body!)) {
    if (data === "[DONE]") return;
    const { choices, usage = null, error } = JSON.parse(data) as Chunk;
    if (error) throw new ServerError(error.message);
    const [choice] = choices;
    const text = choice?.text ?? choice?.delta?.content ?? "";
    const tokens = tokensOf(choice?.logprobs);
    const pieces = text === "" && tokens.length === 0 ? [] : piecesOf(text, tokens);
    yield { pieces, tokens: tokens.length || pieces.length, finishReason: choice?.finish_reason ?? null, usage };
  }
  throw new ServerError("The connection ended before the answer did.");
}

async function ask(route: string, { headers, ...init }: RequestInit = {}): Promise<Response> {
  const given = { ...(headers as Record<string, string>), ...(key && { authorization: `Bearer ${key}` }) };
  const response = await fetch(base + route, { ...init, headers: given }).catch((error: unknown) => {
    if (init.signal?.aborted) throw error;
    throw new ServerError("The server cannot be reached. Check that it still runs.");
  });
  if (response.ok) return response;
  throw new ServerError(await complaint(response), response.status);
}

/** Resolves to what an answer with an error says. */
async function complaint(response: Response): Promise<string> {
  const { status, headers } = response;
  const body = (await response.json().catch(() => null)) as { error?: { message?: string } } | null;
  const message = body?.error?.message ?? `The server answered with the status ${status}.`;
  const seconds = headers.get("retry-after");
  return seconds === null ? message : `${message.replace(/ Try again later\.$/, "")} Try again in ${seconds} s.`;
}
