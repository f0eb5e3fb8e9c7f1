/** Servers of small random models, in the process of the test. */
import { onTestFinished } from "vitest";
import { Bert } from "../../lib/models/bert.js";
import { BertForSequenceClassification } from "../../lib/models/bert-heads.js";
import { ClassifierModel } from "../../lib/load/classifier-model.js";
import { EmbeddingModel } from "../../lib/load/embedding-model.js";
import { LanguageModel } from "../../lib/load/language-model.js";
import type { CreateServerOptions } from "../../lib/server/app.js";
import { createServer } from "../../lib/server/index.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import { smallGpt } from "../generate/models.js";
import { byteLevelJson, wordPieceJson, wordPieces } from "../tokenizer/fixtures.js";

/** Number of tokens of the context of `chatModel`. */
export const contextLength = 96;

/** Returns a random GPT with a chat template. */
export function chatModel(): LanguageModel {
  const chatTemplate =
    "{% for m in messages %}{{ m.role }}: {{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";
  const tokenizer = new HuggingFaceTokenizer(byteLevelJson(), { config: { eos_token: "<|end|>" }, chatTemplate });
  const model = smallGpt("cpu", { vocabularySize: 272, contextLength });
  return new LanguageModel({ model, tokenizer, defaults: { stopTokens: [tokenizer.endOfText!] } });
}

/** Returns a random BERT for WordPieces. */
export function embeddingModel(): EmbeddingModel {
  const size = {
    vocabularySize: wordPieces.length,
    contextLength: 12,
    layers: 1,
    heads: 2,
    width: 8,
    feedForwardWidth: 12,
  };
  const model = new Bert(size, { device: "cpu", seed: 5 });
  return new EmbeddingModel({
    model,
    tokenizer: new HuggingFaceTokenizer(wordPieceJson()),
    recipe: { normalize: true },
  });
}

/** Returns a random cross-encoder for WordPieces, with a context of so many tokens. */
export function rankingModel(contextLength = 16): ClassifierModel {
  const size = {
    vocabularySize: wordPieces.length,
    contextLength,
    layers: 1,
    heads: 2,
    width: 8,
    feedForwardWidth: 12,
  };
  const bert = new Bert(size, { device: "cpu", seed: 5 });
  const model = new BertForSequenceClassification(bert, { labels: 1, seed: 2 });
  const token = (id: string, type_id: number): unknown => ({ SpecialToken: { id, type_id } });
  const text = (id: string, type_id: number): unknown => ({ Sequence: { id, type_id } });
  const single = [token("[CLS]", 0), text("A", 0), token("[SEP]", 0)];
  const json = wordPieceJson() as { post_processor: object };
  const post_processor = { ...json.post_processor, single, pair: [...single, text("B", 1), token("[SEP]", 1)] };
  return new ClassifierModel({ model, tokenizer: new HuggingFaceTokenizer({ ...json, post_processor }) });
}

/** Body of an error. */
export interface ErrorBody {
  error: { message: string; type: string; param: string | null; code: string | null };
}

/** Client of a server. */
export interface Client {
  url: string;
  /** Sends a body and returns the answer. */
  post: (path: string, body: unknown, init?: RequestInit) => Promise<Response>;
  /** Sends a body and returns that of the answer, which must have the status 200. */
  answer: <T>(path: string, body: unknown) => Promise<T>;
  /** Returns the value of a metric; labels are written as in Prometheus' format. */
  metric: (name: string) => Promise<number>;
  close: () => Promise<void>;
}

/** Starts a server, which is closed after the test. */
export async function start(options: CreateServerOptions): Promise<Client> {
  const app = await createServer(options);
  let closing: Promise<void> | null = null;
  const close = (): Promise<void> => (closing ??= app.close().then(() => undefined));
  onTestFinished(close);
  const url = await app.listen({ host: "127.0.0.1", port: 0 });
  const post = (path: string, body: unknown, { headers, ...init }: RequestInit = {}): Promise<Response> =>
    fetch(url + path, {
      ...{ method: "POST", body: JSON.stringify(body), ...init },
      headers: { "content-type": "application/json", ...(headers as Record<string, string>) },
    });
  return {
    url,
    post,
    close,
    async answer<T>(path: string, body: unknown) {
      const response = await post(path, body);
      if (response.status !== 200) throw new Error(`status ${response.status}: ${await response.text()}`);
      return (await response.json()) as T;
    },
    async metric(name) {
      const text = await (await fetch(`${url}/metrics`)).text();
      const line = text.split("\n").find((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`));
      return Number(line?.split(" ").at(-1));
    },
  };
}

/** Returns the data of the events of a stream. */
export async function eventsOf<T>(response: Response): Promise<(T | "[DONE]")[]> {
  const text = await response.text();
  return text
    .trimEnd()
    .split("\n\n")
    .map((event) =>
      event
        .split("\n")
        .find((line) => line.startsWith("data: "))!
        .slice("data: ".length),
    )
    .map((data) => (data === "[DONE]" ? data : (JSON.parse(data) as T)));
}

/** Waits until a condition holds; fails after some seconds. */
export async function until(condition: () => boolean | Promise<boolean>, interval = 5): Promise<void> {
  const limit = performance.now() + 50_000;
  while (!(await condition())) {
    if (performance.now() > limit) throw new Error("waited in vain");
    await new Promise((resolve) => setTimeout(resolve, interval));
  }
}
