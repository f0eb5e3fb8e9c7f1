/**
 * A model that has learnt one conversation with tools by heart: it decides by itself to call a tool twice, one call after the
 * other, and answers in words when it has both results. So agents run to their end without a choice that is forced.
 */
import { LanguageModel } from "../../lib/load/language-model.js";
import { GPT } from "../../lib/models/gpt.js";
import { crossEntropy } from "../../lib/ops/cross-entropy.js";
import { AdamW } from "../../lib/optim/adamw.js";
import { scope } from "../../lib/core/scope.js";
import { encodeConversation } from "../../lib/structured/conversation.js";
import { tensor } from "../../lib/core/creation.js";
import type { ChatMessage } from "../../lib/tokenizer/chat-template.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import { byteLevelJson } from "../tokenizer/fixtures.js";

/** Question that the model knows. */
export const question = "Oslo, Rome?";
/** Its answer when it has the results of its calls. */
export const finalAnswer = "Cold, then warm.";
/** Cities of its calls, in their order. */
export const cities = ["Oslo", "Rome"];
/** Name of the tool that it calls. */
export const toolName = "weather";

/** Returns the result of a call. */
export function weatherOf(city: string): string {
  return city === "Oslo" ? "3 C" : "21 C";
}

const chatTemplate =
  "{% for m in messages %}{{ m.role[0] }}:{{ m.content or '' }}{% for c in m.tool_calls or [] %}<tool_call>{{ c.function.name }}" +
  "{{ c.function.arguments | tojson }}{% endfor %}\n{% endfor %}{% for t in tools or [] %}[{{ t.function.name }}]{% endfor %}>";

/** Resolves to the model, which is trained within seconds. */
export async function agentModel(): Promise<LanguageModel> {
  const tokenizer = new HuggingFaceTokenizer(byteLevelJson(), { config: { eos_token: "<|end|>" }, chatTemplate });
  const size = { vocabularySize: 272, contextLength: 512, layers: 2, heads: 2, width: 48, dropout: 0 };
  const model = new GPT(size, { device: "cpu", seed: 1 });
  const texts = await turns(tokenizer);
  using optimizer = new AdamW(model.namedParameters(), { lr: 0.005, weightDecay: 0 });
  for (let step = 0, worst = Infinity; worst > 0.01; step++) {
    if (step === 400) throw new Error(`the model has not learnt the conversation: its loss is ${worst}`);
    worst = 0;
    for (const { tokens, prompt } of texts) {
      const inputs = tensor(tokens.slice(0, -1), [1, tokens.length - 1]);
      // Only the answer is learnt, so that the model has nothing else to remember.
      const targets = tensor(tokens.map((id, i) => (i < prompt ? -100 : id)).slice(1), [1, tokens.length - 1]);
      const loss = scope(() => crossEntropy(model.forward(inputs), targets));
      worst = Math.max(worst, await loss.item());
      loss.backward();
      optimizer.step();
      optimizer.zeroGrad();
    }
  }
  const defaults = { stopTokens: [tokenizer.endOfText!], temperature: 0 };
  return new LanguageModel({ model, tokenizer, defaults });
}

/** Resolves to the tokens of each prompt with its answer, and to the number of those that are the prompt's. */
async function turns(tokenizer: HuggingFaceTokenizer): Promise<{ tokens: Int32Array; prompt: number }[]> {
  const messages: ChatMessage[] = [{ role: "user", content: question }];
  const made: { tokens: Int32Array; prompt: number }[] = [];
  const add = async (answer: string): Promise<void> => {
    const { tokens } = await encodeConversation(tokenizer, messages, [{ name: toolName, parameters: {} }], {});
    const written = tokenizer.encode(answer, { addSpecialTokens: false });
    made.push({ tokens: Int32Array.of(...tokens, ...written, tokenizer.endOfText!), prompt: tokens.length });
  };
  for (const [i, city] of cities.entries()) {
    const call = { id: `call_${i}`, name: toolName, arguments: JSON.stringify({ city }) };
    await add(`<tool_call>\n{"name": "${toolName}", "arguments": {"city": "${city}"}}\n</tool_call>`);
    messages.push({ role: "assistant", content: null, toolCalls: [call] });
    messages.push({ role: "tool", name: toolName, toolCallId: call.id, content: weatherOf(city) });
  }
  await add(finalAnswer);
  return made;
}
