// Texts of a schema and ajv's judgement of them, made in another thread: the drawing of texts and ajv take hundreds of
// megabytes, whose collection would hold up what is measured.
import { once } from "node:events";
import { isMainThread, parentPort, Worker } from "node:worker_threads";
import type { JsonSchema } from "../../lib/util/json-schema.js";
import { formatExpression } from "../../lib/structured/format-expression.js";
import { atOnce } from "../../lib/util/turns.js";
import { sampler } from "../../test/structured/sample.js";
import { type Judgement, judgeOf } from "./judge.js";

/** A text that was drawn. */
export interface Drawn {
  readonly text: string;
  readonly judgement: Judgement;
}

interface Order {
  readonly schema: JsonSchema;
  readonly count: number;
}

/** Number of bytes after which a drawn text ends as soon as it can. */
const usualLength = 300;

function draw({ schema, count }: Order): Drawn[] {
  const sample = sampler(atOnce(formatExpression({ type: "json-schema", schema })));
  const judge = judgeOf(schema);
  return Array.from({ length: count }, (_, seed) => {
    const text = sample(seed, seed === 0 && count > 1 ? 0 : usualLength);
    return { text, judgement: judge(text) };
  });
}

if (!isMainThread) parentPort!.on("message", (order: Order) => parentPort!.postMessage(draw(order)));

/** Draws texts in a thread of its own. */
export class Drawer implements AsyncDisposable {
  readonly #thread = new Worker(new URL(import.meta.url));

  /** Resolves to `count` texts of a schema, which heed must accept. The first of several is as short as possible. */
  async draw(schema: JsonSchema, count: number): Promise<Drawn[]> {
    this.#thread.postMessage({ schema, count } satisfies Order);
    // A thread that fails emits "error", with which this rejects.
    const [drawn] = (await once(this.#thread, "message")) as [Drawn[]];
    return drawn;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#thread.terminate();
  }
}
