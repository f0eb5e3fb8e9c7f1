// Server-sent events as text: https://html.spec.whatwg.org/multipage/server-sent-events.html
import { apiErrorOf } from "./api-error.js";
import type { EventStream } from "./endpoint.js";

/** Returns the text of an event: its data, and its name if it has one. */
export function eventText(data: object, name?: string): string {
  return eventOf(JSON.stringify(data), name);
}

/** Returns the text of an event whose data are JSON already. */
function eventOf(json: string, name?: string): string {
  return `${name === undefined ? "" : `event: ${name}\n`}data: ${json}\n\n`;
}

/**
 * Returns a function that writes the event of a choice: `head` with this choice, and with the usage so far if `usage` gives
 * it, or null if it comes in an event of its own. All but the choice is written once, because most tokens have an event.
 */
export function choiceEvents(head: object, usage: boolean | (() => object)): (choice: object) => string {
  const begin = `${JSON.stringify(head).slice(0, -1)},"choices":[`;
  const end = usage ? '],"usage":null}' : "]}";
  if (typeof usage === "function")
    return (choice) => eventOf(`${begin}${JSON.stringify(choice)}],"usage":${JSON.stringify(usage())}}`);
  return (choice) => eventOf(begin + JSON.stringify(choice) + end);
}

/** Event that ends the streams of completions. */
export const doneText = eventOf("[DONE]");

/** Returns the text of a stream of events. A failure becomes the last event, since the status has been sent already. */
export function eventLines(
  { events, leave }: EventStream,
  onError: (error: unknown) => void,
): AsyncIterable<string> & AsyncIterator<string, void> {
  let failed = false;
  const fail = async (error: unknown): Promise<IteratorResult<string, void>> => {
    onError(error);
    failed = true;
    await leave();
    return { value: eventText(apiErrorOf(error).body) };
  };
  // An async generator or function around the events would cost each token some microtasks.
  return {
    next: () => (failed ? Promise.resolve(ended) : events.next().catch(fail)),
    async return() {
      await events.return();
      // Events of which none has been read do nothing at their end.
      await leave();
      return ended;
    },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}

const ended: IteratorResult<string, void> = { done: true, value: undefined };
