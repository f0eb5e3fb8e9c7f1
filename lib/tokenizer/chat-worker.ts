// Worker thread that renders conversations (chat-thread.ts).
import { carryOut } from "../util/worker-thread.js";
import { ChatTemplate } from "./chat-template.js";
import type { RenderOrder } from "./chat-thread.js";

/** The latest template: most processes have one. */
let latest: { key: string; template: ChatTemplate } | null = null;

carryOut((order: RenderOrder) => {
  if (!order) return null;
  const { source, variables, messages, options } = order;
  const key = JSON.stringify([source, variables]);
  if (latest?.key !== key) latest = { key, template: new ChatTemplate(source, variables) };
  return latest.template.renderText(messages, options);
});
