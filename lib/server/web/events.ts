// Reads server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html

/** Yields the data of each event of a stream. A connection that breaks ends the stream. */
export async function* eventData(stream: ReadableStream<Uint8Array>): AsyncGenerator<string, void, undefined> {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read().catch(() => ({ done: true, value: undefined }));
      if (done) return;
      const events = (rest + decoder.decode(value, { stream: true })).split("\n\n");
      rest = events.pop()!;
      for (const event of events) yield dataOf(event);
    }
  } finally {
    // Also if the loop over the events is left early.
    void reader.cancel().catch(() => undefined);
  }
}

function dataOf(event: string): string {
  const lines = event.split("\n").filter((line) => line.startsWith("data:"));
  return lines.map((line) => line.slice("data:".length).trimStart()).join("\n");
}
