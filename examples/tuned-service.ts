// A service that fine-tunes a model on conversations, evaluates it and serves it, all in one process. Clients choose
// between the model as it was, "base", and its adapter, "tuned". For the form of the file, see fine-tune.ts.
//
//   node examples/tuned-service.ts chats.jsonl HuggingFaceTB/SmolLM2-135M-Instruct 100 8080
//   curl http://127.0.0.1:8080/v1/chat/completions -H "content-type: application/json" \
//     -d '{"model": "tuned", "messages": [{"role": "user", "content": "Who are you?"}]}'
import { addAdapter, evaluate, LanguageModel, load, packExamples, readExamples } from "heed";
import { setAdapter, Trainer, withChatTemplate } from "heed";
import { createServer } from "heed/server";

const [file = "chats.jsonl", name = "HuggingFaceTB/SmolLM2-135M-Instruct", steps = "100", port = "8080"] =
  process.argv.slice(2);
const loaded = await load(name, { kind: "causal" });
const { model, defaults } = loaded;
const tokenizer = withChatTemplate(loaded.tokenizer);
const contextLength = Math.min(256, model.config.contextLength);

const examples = await readExamples(file, tokenizer);
const held = Math.ceil(examples.length / 10);
const data = packExamples(examples.slice(held), { contextLength });
const heldOut = packExamples(examples.slice(0, held), { contextLength });
const perplexity = async (): Promise<string> =>
  (await evaluate(model, heldOut, { contextLength })).perplexity.toFixed(2);
console.log(`perplexity before: ${await perplexity()}`);

addAdapter(model, { name: "tuned", rank: 8, alpha: 16 });
using trainer = new Trainer({ model, data, batchSize: 4, steps: Number(steps), lr: 1e-3, warmup: 5 });
await trainer.train();
console.log(`perplexity after: ${await perplexity()}`);

setAdapter(model.eval(), null); // From now on, each request chooses.
const server = await createServer({ models: { base: new LanguageModel({ model, tokenizer, defaults }) } });
console.log(`serving base and tuned at ${await server.listen({ port: Number(port) })}`);
process.once("SIGTERM", () => void server.close());
