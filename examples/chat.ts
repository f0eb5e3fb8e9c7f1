// A chat in the terminal with a published model: a name of the hub, a folder or a GGUF file. Ctrl-C stops an answer;
// Ctrl-D, or Ctrl-C at the prompt, ends the chat.
//
//   node examples/chat.ts HuggingFaceTB/SmolLM2-135M-Instruct
import { createInterface } from "node:readline/promises";
import { type ChatMessage, load } from "heed";

const [source = "HuggingFaceTB/SmolLM2-135M-Instruct"] = process.argv.slice(2);
using model = await load(source, { kind: "causal", quantize: 8 });
const terminal = createInterface({ input: process.stdin, output: process.stdout, prompt: "> " });
const messages: ChatMessage[] = [];

let answering: AbortController | null = null;
terminal.on("SIGINT", () => (answering ? answering.abort() : terminal.close()));

terminal.prompt();
for await (const question of terminal) {
  messages.push({ role: "user", content: question });
  answering = new AbortController();
  let answer = "";
  try {
    for await (const { text } of model.chat(messages, {
      maxTokens: 300,
      overflow: "slide",
      signal: answering.signal,
    })) {
      answer += text;
      process.stdout.write(text);
    }
  } catch (error) {
    if (!answering.signal.aborted) throw error;
  }
  answering = null;
  messages.push({ role: "assistant", content: answer });
  process.stdout.write("\n");
  terminal.prompt();
}
