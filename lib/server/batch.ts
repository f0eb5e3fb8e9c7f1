// Files of requests in OpenAI's batch format: each line of the input is a request, and each line of the output the
// answer to one. Answers are appended as they come, so the output says what is done: a run that was killed is continued
// by the next one, which first removes a line that was cut off.
import { randomUUID } from "node:crypto";
import { setMaxListeners } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { checkBoolean, checkInteger } from "../util/check.js";
import { describe, HeedError, oneOf } from "../util/errors.js";
import { naming } from "../util/files.js";
import { linesOf, longestLine } from "../util/lines.js";
import { warnOnce } from "../util/warn-once.js";
import { ApiError, apiErrorOf, isBusy } from "./api-error.js";
import { type BatchLock, BatchOutput, lockBatch } from "./batch-output.js";
import type { Call, Endpoint } from "./endpoint.js";
import { endpoints } from "./endpoints.js";
import { Gate } from "./gate.js";
import { validator } from "./json-schema.js";
import { observers } from "./request-observer.js";
import { ResponseStore } from "./response-store.js";
import { type ServableModel, ServedModels } from "./served-models.js";
import type { ServedEngineOptions } from "./shared-memory.js";

/** Options of `runBatch`. */
export interface BatchOptions {
  /** The models by the names that requests give. */
  models: Readonly<Record<string, ServableModel>>;
  /** Options of the engine of each model that generates. @default {} */
  engine?: ServedEngineOptions;
  /** Number of requests that run at the same time, if there is room for all of their answers. @default 64 */
  concurrency?: number;
  /**
   * If true, the names of control tokens ("<|im_end|>") in messages and tools become these tokens, as in
   * `ServerOptions`.
   *
   * @default false
   */
  rawControlTokens?: boolean;
  /** Signal that stops the run. The requests that run then have no answer, and the next run makes them again. */
  signal?: AbortSignal;
  /** Lock of the output that `lockBatch` has returned. By default the run takes one and releases it at its end. */
  lock?: BatchLock;
}

/** Numbers of requests of a batch. */
export interface BatchResult {
  /** Requests of the input. */
  total: number;
  /** Requests that an earlier run had answered. */
  earlier: number;
  /** Requests that this run answered with an error. */
  failed: number;
}

interface BatchRequest {
  custom_id: string;
  method: "POST";
  url: string;
  body: { stream?: unknown };
}

const routes = new Map(
  endpoints
    .filter(({ url }) => url.startsWith("/v1/"))
    .map((endpoint): [string, { endpoint: Endpoint; check: ReturnType<typeof validator> }] => [
      ...([endpoint.url, { endpoint, check: validator(endpoint.schema) }] as const),
    ]),
);

/**
 * Answers the requests of a file, one a line, and appends each answer to another file as a line. If the output has the
 * answers of an earlier run, this run continues it. Only one run at a time may write to the output: it is locked.
 *
 * @example
 * // This downloads a model.
 * const model = await load("Qwen/Qwen3-0.6B", { kind: "causal" });
 * const { total, failed } = await runBatch("in.jsonl", "out.jsonl", { models: { qwen: model } });
 *
 * @throws ERR_IO if a file cannot be read or written.
 * @throws ERR_FORMAT if a line is no request or longer than 64 MiB, two have the same custom_id, or the output belongs to
 *   another input.
 * @throws ERR_ARGUMENT or ERR_RANGE if an option is invalid, or the output is the input.
 * @throws ERR_BUSY if another run writes to the output.
 * @throws the signal's reason if it is aborted.
 */
export async function runBatch(input: string, output: string, options: BatchOptions): Promise<BatchResult> {
  const { concurrency = 64, engine = {}, rawControlTokens = false } = options;
  // Each request listens to it.
  const signal = AbortSignal.any(options.signal ? [options.signal] : []);
  setMaxListeners(0, signal);
  checkInteger("runBatch", "concurrency", concurrency, 1);
  checkBoolean("runBatch", "rawControlTokens", rawControlTokens);
  const own = options.lock ? null : await lockBatch(input, output);
  try {
    const lock = options.lock ?? own!;
    return await answered(input, output, { ...options, engine, concurrency, rawControlTokens, signal, lock });
  } finally {
    await own?.[Symbol.asyncDispose]();
  }
}

type Settings = Required<BatchOptions>;

async function answered(input: string, output: string, settings: Settings): Promise<BatchResult> {
  const { engine, concurrency, rawControlTokens, signal, lock } = settings;
  const names = await customIds(input);
  await using file = await BatchOutput.open(output, lock);
  const models = new ServedModels(settings.models, engine, { rawControlTokens });
  const gate = new Gate(models.mostAnswers);
  try {
    const done = await answeredNames(output, names);
    const responses = new ResponseStore(0);
    const warn = (text: string): void => warnOnce("HEED_BATCH", text);
    const call = {
      models,
      limits: {},
      observer: observers([]),
      tenant: null,
      owner: null,
      responses,
      warn,
      signal,
      releases: [],
    };
    const result = { total: names.size, earlier: done.size, failed: 0 };
    await concurrently(concurrency, requestsOf(input), async (request) => {
      if (done.has(request.custom_id)) return;
      signal.throwIfAborted();
      const { status, line } = lineOf(request, await answer(request, call, gate));
      if (status !== 200) result.failed++;
      await file.append(line);
    });
    await file.sync();
    return result;
  } finally {
    await models.close();
  }
}

interface Answer {
  status: number;
  body: object;
}

/** Returns the line of an answer. One that would be too long to be read again becomes an error. */
function lineOf({ custom_id }: BatchRequest, { status, body }: Answer): { status: number; line: string } {
  const write = (status_code: number, body: object): string => {
    const response = { status_code, request_id: `req_${randomUUID()}`, body };
    return JSON.stringify({ id: `batch_req_${randomUUID()}`, custom_id, response, error: null });
  };
  const line = write(status, body);
  if (Buffer.byteLength(line) <= longestLine) return { status, line };
  const error = new ApiError(400, `The answer has more than ${longestLine} bytes. Ask for less in one request.`, {
    ...{ param: null, code: "answer_too_long" },
  });
  return { status: error.status, line: write(error.status, error.body) };
}

/** Resolves to the status and the body of the answer to a request, which waits for its turn. */
async function answer({ url, body }: BatchRequest, shared: Call, gate: Gate): Promise<Answer> {
  const { endpoint, check } = routes.get(url)!;
  const error = check(body).error ?? streamError(body);
  if (error) return { status: error.status, body: error.body };
  const leave = await gate.enter(endpoint.answers?.(body));
  const call = { ...shared, releases: [] as (() => void)[] };
  try {
    for (;;) {
      call.signal.throwIfAborted();
      try {
        return { status: 200, body: await endpoint.run(body, call) };
      } catch (cause) {
        call.signal.throwIfAborted();
        const error = apiErrorOf(cause);
        if (!isBusy(error)) return { status: error.status, body: error.body };
        // What is left of a request that has failed still runs for a token.
        await sleep(20);
      }
    }
  } finally {
    for (const release of call.releases) release();
    leave();
  }
}

function streamError({ stream }: BatchRequest["body"]): ApiError | null {
  if (!stream) return null;
  return new ApiError(400, "stream: expected false in a batch, got true.", {
    ...{ param: "stream", code: "invalid_value" },
  });
}

/** Calls `body` for each item, for at most `most` at a time. If a call fails, waits for those that run and rejects. */
async function concurrently<T>(most: number, items: AsyncIterable<T>, body: (item: T) => Promise<void>): Promise<void> {
  const gate = new Gate(most);
  const failures: unknown[] = [];
  for await (const item of items) {
    const leave = await gate.enter();
    if (failures.length > 0) {
      leave();
      break;
    }
    void body(item)
      .catch((cause: unknown) => failures.push(cause))
      .finally(leave);
  }
  // All places are free when all have left.
  await gate.enter(most);
  if (failures.length > 0) throw failures[0];
}

async function* requestsOf(file: string): AsyncGenerator<BatchRequest, void, undefined> {
  for await (const line of linesOf(file)) if (line.trim() !== "") yield JSON.parse(line) as BatchRequest;
}

/** Resolves to the names of the requests, after all lines have been checked. */
async function customIds(file: string): Promise<Set<string>> {
  const names = new Set<string>();
  let number = 0;
  const wrong = (expected: string, got: unknown): HeedError =>
    new HeedError("ERR_FORMAT", `${file}, line ${number}: expected ${expected}, got ${describe(got)}`);
  await naming(file, async () => {
    for await (const line of linesOf(file)) {
      number++;
      if (line.trim() === "") continue;
      const fields = parse(line, () => wrong("an object in JSON", line));
      const { custom_id: name, method, url, body, ...others } = fields;
      const [other] = Object.keys(others);
      if (other !== undefined) throw wrong("the fields custom_id, method, url and body", other);
      if (typeof name !== "string" || name === "") throw wrong("custom_id to be a text", name);
      if (names.has(name)) throw wrong("a custom_id that no line before has", name);
      if (method !== "POST") throw wrong('method to be "POST"', method);
      if (!routes.has(url as string)) throw wrong(`url to be ${oneOf([...routes.keys()])}`, url);
      if (typeof body !== "object" || body === null) throw wrong("body to be an object", body);
      names.add(name);
    }
  });
  return names;
}

/** Resolves to the names of the requests that have answers in the output. */
async function answeredNames(output: string, names: ReadonlySet<string>): Promise<Set<string>> {
  const done = new Set<string>();
  await naming(output, async () => {
    for await (const line of linesOf(output)) {
      const other = () =>
        new HeedError("ERR_FORMAT", `${output}: expected answers to this input, each once, got ${describe(line)}`);
      const { custom_id: name } = parse(line, other);
      if (typeof name !== "string" || !names.has(name) || done.has(name)) throw other();
      done.add(name);
    }
  });
  return done;
}

function parse(line: string, error: () => HeedError): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(line);
    if (typeof value === "object" && value !== null) return value as Record<string, unknown>;
  } catch {
    // The error below says it.
  }
  throw error();
}
