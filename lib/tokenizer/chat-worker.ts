// Worker thread that renders conversations (chat-thread.ts).
import { parentPort } from "node:worker_threads";
import { HeedError } from "../errors.js";
import { ChatTemplate } from "./chat-template.js";
import type { Rendered, RenderOrder } from "./chat-thread.js";

/** The latest template: most processes have one. */
let latest: { key: string; template: ChatTemplate } | null = null;

function textOf({ source, variables, messages, options }: RenderOrder): string {
  const key = JSON.stringify([source, variables]);
  if (latest?.key !== key) latest = { key, template: new ChatTemplate(source, variables) };
  return latest.template.render(messages, options);
}

parentPort!.on("message", (order: RenderOrder) => {
  const { id } = order;
  let answer: Rendered;
  try {
    answer = { id, text: textOf(order) };
  } catch (error) {
    const code = error instanceof HeedError ? error.code : "ERR_INTERNAL";
    answer = { id, code, message: (error as Error).message };
  }
  parentPort!.postMessage(answer);
});
