// Server-sent events as text: https://html.spec.whatwg.org/multipage/server-sent-events.html
import { apiErrorOf } from "./api-error.js";
import type { EventStream, StreamEvent } from "./endpoint.js";

/** Yields the text of a stream of events. A failure becomes the last event, since the status has been sent already. */
export async function* eventLines(stream: EventStream, onError: (error: unknown) => void): AsyncGenerator<string> {
  try {
    for await (const event of stream.events) yield eventText(event);
    if (stream.end !== "") yield `data: ${stream.end}\n\n`;
  } catch (error) {
    onError(error);
    yield eventText({ data: apiErrorOf(error).body });
  }
}

function eventText({ event, data }: StreamEvent): string {
  return `${event === undefined ? "" : `event: ${event}\n`}data: ${JSON.stringify(data)}\n\n`;
}
