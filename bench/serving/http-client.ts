// A process of callers over HTTP, which does as little as it can: it reads answers and throws them away.
import { once, setMaxListeners } from "node:events";
import { Agent, type IncomingMessage, request } from "node:http";
import { requestsOf, type ServingRequest, type Traffic } from "./load.js";

/** Order to begin. Another message ends the callers, and is answered when they have ended. */
export interface ClientOrder {
  url: string;
  callers: number;
  traffic: Traffic;
  /** V, the number of tokens in the model's vocabulary. */
  vocabulary: number;
  /** True for answers in parts. */
  stream: boolean;
}

const agent = new Agent({ keepAlive: true });
let stop = new AbortController();
let all: Promise<unknown> = Promise.resolve();

async function ask(
  { url, stream }: ClientOrder,
  { tokens, maxTokens }: ServingRequest,
  signal: AbortSignal,
): Promise<void> {
  const body = { prompt: tokens, max_tokens: maxTokens, min_tokens: maxTokens, temperature: 0, stream };
  const sent = request(`${url}/v1/completions`, {
    ...{ method: "POST", agent, signal, headers: { "content-type": "application/json" } },
  });
  // An answer that is cut off fails twice.
  sent.on("error", () => undefined).end(JSON.stringify(body));
  const [answer] = (await once(sent, "response")) as [IncomingMessage];
  let last = "";
  answer.on("data", (data: Buffer) => (last = data.toString("latin1")));
  await once(answer, "end");
  if (answer.statusCode !== 200 || !/\[DONE\]\n\n$|"usage"/.test(last))
    throw new Error(`expected an answer, got the status ${answer.statusCode} and ${last.slice(0, 200)}`);
}

process.on("message", (order: ClientOrder | "stop") => {
  if (order === "stop") {
    stop.abort();
    void all.then(() => process.send!("stopped"));
    return;
  }
  stop = new AbortController();
  const { signal } = stop;
  setMaxListeners(0, signal);
  const requests = requestsOf(order.traffic, order.vocabulary, 1);
  all = Promise.all(
    Array.from({ length: order.callers }, async () => {
      while (!signal.aborted)
        await ask(order, requests.next().value, signal).catch((error: unknown) => {
          if (!signal.aborted) throw error;
        });
    }),
  );
});
