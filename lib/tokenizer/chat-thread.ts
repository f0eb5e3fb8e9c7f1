// Renders long conversations in a thread of their own: the interpreter of templates cannot pause, and thousands of messages
// would hold the event loop for half a second.
import { HeedError } from "../errors.js";
import { WorkerThread } from "../worker-thread.js";
import type { ChatMessage, ChatOptions, ChatTemplate } from "./chat-template.js";

/** Order to render a conversation. */
export interface RenderOrder {
  readonly source: string;
  readonly variables: Readonly<Record<string, unknown>>;
  readonly messages: readonly ChatMessage[];
  readonly options: ChatOptions;
}

/** Number of values, in messages and tools, beyond which a conversation is long: it takes some ten milliseconds. */
const mostValues = 1500;

let thread: WorkerThread<RenderOrder, string> | null = null;

/** Resolves to the text of a conversation; see `ChatTemplate.render`. */
export async function renderChat(
  template: ChatTemplate,
  messages: readonly ChatMessage[],
  options: ChatOptions,
): Promise<string> {
  const { source, variables } = template;
  if (!hasMoreValues([messages, options.tools, options.variables], mostValues))
    return template.render(messages, options);
  try {
    // A thread that has ended is replaced.
    if (!thread || thread.failed) thread = new WorkerThread(new URL("./chat-worker.js", import.meta.url));
    return await thread.run({ source, variables, messages, options });
  } catch (error) {
    if (error instanceof HeedError && error.code !== "ERR_INTERNAL") throw error;
    // A process with --permission may start no thread, and variables that are functions cannot be sent to one.
    return template.render(messages, options);
  }
}

/** Returns true if a value contains more than `most` others. */
function hasMoreValues(value: unknown, most: number): boolean {
  const pending = [value];
  let count = 0;
  while (pending.length > 0) {
    const one = pending.pop();
    if (typeof one !== "object" || one === null) continue;
    const parts = Object.values(one);
    count += parts.length;
    if (count > most) return true;
    for (const part of parts) pending.push(part);
  }
  return false;
}
