// The answer that is being generated: there is one at a time, which the page can stop.
import { announce } from "../../web/dom.js";

let controller: AbortController | null = null;
let running: Promise<void> = Promise.resolve();

/** Runs a function that generates an answer, after it has stopped the one before. `stop` aborts the signal. */
export async function run(generate: (signal: AbortSignal) => Promise<void>): Promise<void> {
  while (isRunning()) await stop();
  controller = new AbortController();
  show(true);
  running = generate(controller.signal).finally(() => {
    controller = null;
    show(false);
  });
  return running;
}

/** Stops the answer that is being generated, if there is one, and resolves when it has ended. */
export async function stop(): Promise<void> {
  controller?.abort();
  await running.catch(() => undefined);
}

/** Returns true if an answer is being generated. */
export function isRunning(): boolean {
  return controller !== null;
}

/** Shows the buttons that stop an answer in place of those that ask for one, or the other way round. */
function show(runs: boolean): void {
  const focused = document.activeElement;
  const [hidden, shown] = runs ? ["send", "stop"] : ["stop", "send"];
  for (const button of document.querySelectorAll<HTMLButtonElement>(`button.${shown}`)) button.hidden = false;
  for (const button of document.querySelectorAll<HTMLButtonElement>(`button.${hidden}`)) {
    button.hidden = true;
    // A button that disappears would take the focus with it. One that was in the answer before has done so.
    if (button === focused || focused === document.body)
      button.parentElement!.querySelector<HTMLButtonElement>(`button.${shown}`)!.focus();
  }
  if (runs) announce("The model is answering.");
}
