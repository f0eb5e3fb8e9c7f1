// Fine-tunes a model on conversations with a LoRA adapter, and answers a question before and after. Each line of the file
// is an object {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}.
//
//   node examples/fine-tune.ts chats.jsonl "Who are you?" HuggingFaceTB/SmolLM2-135M-Instruct 100
import {
  addAdapter,
  LanguageModel,
  load,
  packExamples,
  readExamples,
  saveAdapter,
  Trainer,
  withChatTemplate,
} from "heed";

const [file = "chats.jsonl", question = "Who are you?", name = "HuggingFaceTB/SmolLM2-135M-Instruct", steps = "100"] =
  process.argv.slice(2);
const loaded = await load(name, { kind: "causal" });
const tokenizer = withChatTemplate(loaded.tokenizer);
using model = new LanguageModel({ model: loaded.model, tokenizer, defaults: loaded.defaults });
const ask = async (): Promise<string> =>
  (await model.chat([{ role: "user", content: question }], { maxTokens: 40, temperature: 0 })).text;
console.log(`before: ${await ask()}`);

const layers = addAdapter(model.model, { rank: 8, alpha: 16, dropout: 0.05 });
const contextLength = Math.min(256, model.model.config.contextLength);
const data = packExamples(await readExamples(file, tokenizer), { contextLength });
console.log(`${layers.length} adapted layers, ${data.examples} examples in ${data.sequences} sequences`);
using trainer = new Trainer({ model: model.model, data, batchSize: 4, steps: Number(steps), lr: 1e-3, warmup: 5 });
await trainer.train({ onStep: ({ step, loss }) => step % 10 || console.log(`step ${step}: loss ${loss.toFixed(3)}`) });

model.model.eval();
await saveAdapter("my-adapter", model.model, { base: name });
console.log(`after: ${await ask()}`);
