// The completion: a text, and how the model continues it.
import { byId, fitHeight } from "../../web/dom.js";
import { Message } from "./message.js";
import { isRunning, run, stop } from "./run.js";
import { parameters } from "./settings.js";

const output = byId("output");
const field = byId("prompt", HTMLTextAreaElement);

/** Makes the completion work. `model` returns the chosen model. */
export function startCompletion(model: () => string): void {
  const form = byId("prompt-form", HTMLFormElement);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!isRunning()) void complete(model);
  });
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    form.requestSubmit();
  });
  field.addEventListener("input", () => fitHeight(field));
}

async function complete(model: () => string): Promise<void> {
  await stop();
  const again = (): void => void complete(model);
  const message: Message = new Message("assistant", model(), {
    Regenerate: again,
    "Add to the text": () => void stop().then(() => lengthen(message)),
    Delete: () => void stop().then(() => lengthen(null)),
  });
  output.replaceChildren(message.element);
  const body = { model: model(), prompt: field.value, ...parameters("completion") };
  await run((signal) => message.fill("v1/completions", body, signal, again));
}

/** Removes the continuation, after adding it to the text if there is one. */
function lengthen(continuation: Message | null): void {
  field.value += continuation?.text ?? "";
  output.replaceChildren();
  fitHeight(field);
  field.focus();
}
