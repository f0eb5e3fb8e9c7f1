// The chat: a list of messages, and the field for the next one.
import { byId, fitHeight } from "../../web/dom.js";
import { Message } from "./message.js";
import { isRunning, run, stop } from "./run.js";
import { parameters, systemPrompt } from "./settings.js";

const list = byId("messages");
/** Text in the place of the first message. */
const empty = list.querySelector(".empty")!;
const field = byId("message", HTMLTextAreaElement);
let messages: Message[] = [];

/** Makes the chat work. `model` returns the chosen model. */
export function startChat(model: () => string): void {
  const composer = byId("composer", HTMLFormElement);
  composer.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!isRunning()) void send(model);
  });
  field.addEventListener("keydown", (event) => {
    // While an input method is composing a character, Enter chooses it.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    composer.requestSubmit();
  });
  field.addEventListener("input", () => fitHeight(field));
}

/** Adds the message in the field, if there is one, and lets the model answer. */
async function send(model: () => string): Promise<void> {
  const last = messages.at(-1);
  if (field.value.trim() !== "") {
    // Nothing remains of an answer that failed.
    if (last?.role === "assistant" && last.text === "") remove(last);
    add("user", model).text = field.value;
    field.value = "";
    fitHeight(field);
  }
  if (messages.at(-1)?.role === "user") await answer(model);
}

async function answer(model: () => string): Promise<void> {
  const system = systemPrompt();
  const said = messages.map(({ role, text }) => ({ role, content: text }));
  const body = {
    model: model(),
    messages: [...(system ? [{ role: "system", content: system }] : []), ...said],
    ...parameters("chat"),
  };
  const message = add("assistant", model);
  await run((signal) => message.fill("v1/chat/completions", body, signal, () => void regenerate(message, model)));
}

function add(role: Message["role"], model: () => string): Message {
  const message: Message = new Message(role, role === "user" ? "You" : model(), {
    ...(role === "assistant" && { Regenerate: () => void regenerate(message, model) }),
    Edit: () => void stop().then(() => message.edit()),
    Delete: () =>
      void stop().then(() => {
        remove(message);
        field.focus();
      }),
  });
  messages.push(message);
  empty.remove();
  list.append(message.element);
  // The list grows upwards (style.css): this is its end.
  list.parentElement!.scrollTop = 0;
  return message;
}

/** Generates an answer again. The messages after it answered another text, so they go. */
async function regenerate(message: Message, model: () => string): Promise<void> {
  await stop();
  // A second click on its button comes when the message has gone.
  if (!messages.includes(message)) return;
  for (const later of messages.slice(messages.indexOf(message))) remove(later);
  await answer(model);
}

function remove(message: Message): void {
  messages = messages.filter((one) => one !== message);
  message.element.remove();
  if (messages.length === 0) list.append(empty);
}
