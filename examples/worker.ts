// Generates text in a worker thread. Each thread has its own queue of operations, so that what the main thread does with
// heed does not wait for the worker; they share the CPU's cores.
//
//   node examples/worker.ts my-run "The whale"
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { load } from "heed";

interface Job {
  folder: string;
  prompt: string;
}

if (isMainThread) {
  const [folder = "my-run", prompt = "The whale"] = process.argv.slice(2);
  const worker = new Worker(new URL(import.meta.url), { workerData: { folder, prompt } satisfies Job });
  worker.on("message", (text: string) => process.stdout.write(text));
  worker.on("error", (error) => {
    console.error(error);
    process.exitCode = 1;
  });
  worker.on("exit", () => console.log());
} else {
  const { folder, prompt } = workerData as Job;
  using model = await load(folder, { kind: "causal" });
  const options = { maxTokens: 100, temperature: 0.8, seed: 1, overflow: "slide" } as const;
  for await (const { text } of model.generate(prompt, options)) parentPort!.postMessage(text);
}
