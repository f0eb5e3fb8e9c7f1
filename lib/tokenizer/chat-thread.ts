// Renders long conversations in a thread of their own: the interpreter of templates cannot pause, and thousands of messages
// would hold the event loop for half a second.
import { Worker } from "node:worker_threads";
import { type ErrorCode, HeedError } from "../errors.js";
import type { ChatMessage, ChatOptions, ChatTemplate } from "./chat-template.js";

/** Order to render a conversation. */
export interface RenderOrder {
  readonly id: number;
  readonly source: string;
  readonly variables: Readonly<Record<string, unknown>>;
  readonly messages: readonly ChatMessage[];
  readonly options: ChatOptions;
}

/** Answer of the thread. */
export type Rendered = { id: number; text: string } | { id: number; code: ErrorCode; message: string };

/** Number of values, in messages and tools, beyond which a conversation is long: it takes some ten milliseconds. */
const mostValues = 1500;

/** Resolves to the text of a conversation; see `ChatTemplate.render`. */
export async function renderChat(
  template: ChatTemplate,
  messages: readonly ChatMessage[],
  options: ChatOptions,
): Promise<string> {
  if (!hasMoreValues([messages, options.tools, options.variables], mostValues))
    return template.render(messages, options);
  thread ??= new RenderThread();
  return (await thread.render(template, messages, options)) ?? template.render(messages, options);
}

/** Returns true if a value contains more than `most` others. */
function hasMoreValues(value: unknown, most: number): boolean {
  const pending = [value];
  let count = 0;
  for (let one = pending.pop(); pending.length > 0 || one !== undefined; one = pending.pop()) {
    if (typeof one !== "object" || one === null) continue;
    const parts = Object.values(one);
    count += parts.length;
    if (count > most) return true;
    for (const part of parts) pending.push(part);
  }
  return false;
}

let thread: RenderThread | null = null;

interface Waiting {
  resolve: (text: string | null) => void;
  reject: (error: unknown) => void;
}

/** The thread. It keeps no process alive. */
class RenderThread {
  readonly #waiting = new Map<number, Waiting>();
  readonly #worker: Worker;
  #failed = false;
  #next = 0;

  constructor() {
    // A thread does not take the flags of its process, such as those of `node --input-type=module -e`.
    this.#worker = new Worker(new URL("./chat-worker.js", import.meta.url), { execArgv: [] });
    this.#worker.unref();
    this.#worker.on("message", (answer: Rendered) => {
      const { resolve, reject } = this.#take(answer.id);
      if ("text" in answer) resolve(answer.text);
      else reject(new HeedError(answer.code, answer.message));
    });
    // Where there can be no thread, the calling one does the work.
    const fail = (): void => {
      this.#failed = true;
      for (const id of [...this.#waiting.keys()]) this.#take(id).resolve(null);
    };
    this.#worker.on("error", fail);
    this.#worker.on("exit", fail);
  }

  /** Resolves to the text, or to null if there is no thread. */
  render(template: ChatTemplate, messages: readonly ChatMessage[], options: ChatOptions): Promise<string | null> {
    if (this.#failed) return Promise.resolve(null);
    const id = this.#next++;
    const { source, variables } = template;
    try {
      this.#worker.postMessage({ id, source, variables, messages, options } satisfies RenderOrder);
    } catch {
      // Variables may be functions, which no other thread can have.
      return Promise.resolve(null);
    }
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      // While somebody waits, the process goes on.
      this.#worker.ref();
    });
  }

  #take(id: number): Waiting {
    const found = this.#waiting.get(id)!;
    this.#waiting.delete(id);
    if (this.#waiting.size === 0) this.#worker.unref();
    return found;
  }
}
