// Renders long conversations in a thread of their own: the interpreter of templates cannot pause, and thousands of messages
// would hold the event loop for half a second.
import { HeedError } from "../util/errors.js";
import { WorkerThread } from "../util/worker-thread.js";
import type { ChatMessage, ChatOptions, ChatTemplate } from "./chat-template.js";
import type { RenderedText } from "./jinja/template.js";

/** Order to render a conversation; null asks the thread if it runs. */
export type RenderOrder = {
  readonly source: string;
  readonly variables: Readonly<Record<string, unknown>>;
  readonly messages: readonly ChatMessage[];
  readonly options: ChatOptions;
} | null;

/** Numbers of values and of characters, in messages and tools, beyond which a conversation is long. */
const most = { values: 1500, characters: 2 ** 16 };
/** Work of a template after which a conversation is long, however short it seems: some milliseconds. */
const mostWork = 50_000;
/** Milliseconds for which the thread may go on with what nobody waits for, before it is ended: others wait behind it. */
const patience = 200;
/** Number of threads that may fail with a conversation before it is given up. */
const mostThreads = 2;

/** A conversation that waits for the thread. */
interface Waiting {
  readonly order: NonNullable<RenderOrder>;
  readonly resolve: (text: RenderedText | null) => void;
  readonly reject: (error: unknown) => void;
  /** True if nobody waits for it any more. */
  left: boolean;
}

/** The thread and the conversations that wait for it. It gets one at a time, so that the others can be taken back. */
class ChatThread {
  readonly #waiting = new Set<Waiting>();
  #thread: WorkerThread<RenderOrder, RenderedText> | null = null;
  #current: Waiting | null = null;
  #works = false;

  /**
   * Resolves to the text of a conversation; null if this process can have no thread, or a thread cannot have the
   * conversation.
   */
  render(order: NonNullable<RenderOrder>, signal: AbortSignal | undefined): Promise<RenderedText | null> {
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        reject(signal!.reason as Error);
        this.#leave(waiting);
      };
      const settled =
        <T>(settle: (value: T) => void) =>
        (value: T): void => {
          signal?.removeEventListener("abort", leave);
          settle(value);
        };
      const waiting: Waiting = { order, resolve: settled(resolve), reject: settled(reject), left: false };
      signal?.addEventListener("abort", leave, { once: true });
      this.#waiting.add(waiting);
      if (!this.#works) void this.#work();
    });
  }

  /** Forgets a conversation for which nobody waits any more. */
  #leave(waiting: Waiting): void {
    waiting.left = true;
    if (this.#waiting.delete(waiting) || waiting !== this.#current) return;
    const thread = this.#thread;
    setTimeout(() => {
      if (waiting === this.#current && thread === this.#thread) void thread?.terminate();
    }, patience).unref();
  }

  async #work(): Promise<void> {
    this.#works = true;
    for (let [next] = this.#waiting; next; [next] = this.#waiting) {
      this.#waiting.delete(next);
      this.#current = next;
      try {
        next.resolve(await this.#render(next));
      } catch (error) {
        next.reject(error);
      }
    }
    this.#current = null;
    this.#works = false;
  }

  async #render(waiting: Waiting): Promise<RenderedText | null> {
    for (let failed = 0; ;) {
      const thread = await this.#running();
      if (!thread) return null;
      try {
        return await thread.run(waiting.order);
      } catch (error) {
        if (thread.failed && ++failed < mostThreads && !waiting.left) continue;
        if (!thread.failed && error instanceof HeedError && error.code === "ERR_INTERNAL") return null;
        if (error instanceof HeedError) throw error;
        throw failure(error);
      }
    }
  }

  /** Resolves to a thread that runs, which is a new one if the last one has ended; null if there can be none. */
  async #running(): Promise<WorkerThread<RenderOrder, RenderedText> | null> {
    for (let i = 0; i < mostThreads; i++) {
      if (this.#thread && !this.#thread.failed) return this.#thread;
      try {
        const thread = new WorkerThread<RenderOrder, RenderedText>(new URL("./chat-worker.js", import.meta.url));
        await thread.run(null);
        this.#thread = thread;
      } catch {
        // A process with --permission may start no thread.
      }
    }
    return this.#thread?.failed === false ? this.#thread : null;
  }
}

function failure(cause: unknown): HeedError {
  const text = cause instanceof Error ? cause.message : String(cause);
  return new HeedError("ERR_INTERNAL", `chat template: expected a thread that renders the messages, got: ${text}`, {
    cause,
  });
}

const chatThread = new ChatThread();

/**
 * Resolves to the text of a conversation; see `ChatTemplate.renderText`.
 *
 * @throws the signal's reason if it is aborted; the conversation is then not rendered unless that has begun.
 */
export async function renderChat(
  template: ChatTemplate,
  messages: readonly ChatMessage[],
  options: ChatOptions,
  signal?: AbortSignal,
): Promise<RenderedText> {
  signal?.throwIfAborted();
  if (!isLarger([messages, options.tools, options.variables], most)) {
    const text = template.renderWithin(mostWork, messages, options);
    if (text !== null) return text;
  }
  const { source, variables } = template;
  const text = await chatThread.render({ source, variables, messages, options }, signal);
  // Only here can a template call functions of the caller.
  return text ?? template.renderText(messages, options);
}

/** Returns true if a value contains more than `most` others, or texts of more characters. */
function isLarger(value: unknown, most: { readonly values: number; readonly characters: number }): boolean {
  const pending = [value];
  let { values, characters } = most;
  while (pending.length > 0) {
    const one = pending.pop();
    if (typeof one === "string") characters -= one.length;
    if (characters < 0) return true;
    if (typeof one !== "object" || one === null) continue;
    const parts = Object.values(one);
    values -= parts.length;
    if (values < 0) return true;
    for (const part of parts) pending.push(part);
  }
  return false;
}
