// Turns conversations and texts into examples to train on. Of a conversation, the model learns the assistant's tokens
// alone.
import { describe, HeedError } from "../errors.js";
import { toHuggingFaceTokenizer } from "../pretrained/to-huggingface-tokenizer.js";
import { type ChatMessage, type ChatOptions, renderMarked } from "../tokenizer/chat-template.js";
import { HuggingFaceTokenizer } from "../tokenizer/huggingface-tokenizer.js";
import { encodeText, type Tokenizer } from "../tokenizer/tokenizer.js";
import type { TrainingExample } from "./pack-examples.js";

/** Template for models that come without one: a line for each message, and the end of text after the assistant's. */
const plainTemplate =
  "{% if bos_token %}{{ bos_token }}{% endif %}{% for message in messages %}{{ message.role }}: {{ message.content }}" +
  "{% if message.role == 'assistant' and eos_token %}{{ eos_token }}{% endif %}{{ '\n' }}{% endfor %}" +
  "{% if add_generation_prompt %}assistant:{% endif %}";

/**
 * Returns a tokenizer with a chat template: the tokenizer itself if it has one, or the same in the form of a
 * tokenizer.json with a plain template, which writes "role: content" in a line for each message.
 *
 * @example
 * const chat = withChatTemplate(tokenizer);
 * chat.decode(chat.encodeChat([{ role: "user", content: "Hello" }])); // "user: Hello\nassistant:"
 *
 * @throws ERR_ARGUMENT if the tokenizer has no form as a tokenizer.json.
 */
export function withChatTemplate(tokenizer: Tokenizer): HuggingFaceTokenizer {
  const own = toHuggingFaceTokenizer(tokenizer);
  if (own.chatTemplate) return own;
  const { tokenizer: json, config } = own.toFile();
  return new HuggingFaceTokenizer(json, { config, chatTemplate: plainTemplate });
}

/**
 * Resolves to the examples of a conversation, in the form of the tokenizer's chat template. Only the assistant's tokens
 * count for the loss: those that the template marks with {% generation %}, or else those that follow the prompt of an
 * answer, with the tokens that end it. There is one example, unless the template changes earlier turns when later ones
 * follow (such as one that removes their reasoning); then there is one for each answer.
 *
 * @example
 * const messages = [{ role: "user", content: "Hi" }, { role: "assistant", content: "Hello!" }];
 * const [example] = await chatExamples(withChatTemplate(tokenizer), messages);
 * example!.mask; // 1 for " Hello!" and the line's end
 *
 * @throws ERR_ARGUMENT if the tokenizer has no chat template, the template rejects the messages or does not begin an
 *   answer with its prompt, or no message is the assistant's.
 * @throws ERR_RANGE if the template exceeds its limits.
 */
export async function chatExamples(
  tokenizer: Tokenizer,
  messages: readonly ChatMessage[],
  options: Omit<ChatOptions, "addGenerationPrompt"> = {},
): Promise<TrainingExample[]> {
  const template = tokenizer instanceof HuggingFaceTokenizer ? tokenizer.chatTemplate : null;
  if (!(tokenizer instanceof HuggingFaceTokenizer) || !template)
    throw new HeedError(
      "ERR_ARGUMENT",
      "chatExamples: expected a tokenizer with a chat template, got one without; see withChatTemplate()",
    );
  const text = (count: number, addGenerationPrompt: boolean): string =>
    template.render(messages.slice(0, count), { ...options, addGenerationPrompt });
  const whole = text(messages.length, false);
  const turns = messages.flatMap(({ role }, i) => (role === "assistant" ? [i] : []));
  if (turns.length === 0)
    throw new HeedError("ERR_ARGUMENT", "chatExamples: expected a message of the assistant, got none");
  const marked = renderMarked(template, messages, { ...options, addGenerationPrompt: false });
  if (marked) return [await exampleOf(tokenizer, marked.text, marked.answers)];

  const answers = turns.map((turn) => ({ prompt: turn === 0 ? "" : text(turn, true), end: text(turn + 1, false) }));
  if (answers.every(({ prompt, end }) => whole.startsWith(prompt) && whole.startsWith(end)))
    return [
      await exampleOf(
        tokenizer,
        whole,
        answers.map(({ prompt, end }) => [prompt.length, end.length]),
      ),
    ];
  const apart = answers.find(({ prompt, end }) => !end.startsWith(prompt));
  if (apart)
    throw new HeedError(
      "ERR_ARGUMENT",
      `chatExamples: expected a chat template that continues the prompt of an answer with the answer, or marks it with {% generation %}; got the prompt ${describe(apart.prompt.slice(-40))}`,
    );
  return Promise.all(answers.map(({ prompt, end }) => exampleOf(tokenizer, end, [[prompt.length, end.length]])));
}

/** Resolves to the example of a text. The parts of it between two places count for the loss. */
async function exampleOf(
  tokenizer: HuggingFaceTokenizer,
  text: string,
  parts: readonly [from: number, to: number][],
): Promise<TrainingExample> {
  const encode = (part: string): Promise<Int32Array> =>
    tokenizer.encodeAsync(part, { special: true, addSpecialTokens: false });
  const ids = await encode(text);
  const mask = new Uint8Array(ids.length);
  // A token that reaches over a border belongs to the part after it.
  const tokenAt = async (place: number): Promise<number> =>
    place === text.length ? ids.length : commonLength(ids, await encode(text.slice(0, place)));
  for (const [from, to] of parts) mask.fill(1, await tokenAt(from), await tokenAt(to));
  return { ids, mask };
}

function withLast(ids: Int32Array, last: number): Int32Array {
  const all = new Int32Array(ids.length + 1);
  all.set(ids);
  all[ids.length] = last;
  return all;
}

function commonLength(a: Int32Array, b: Int32Array): number {
  let length = 0;
  while (length < Math.min(a.length, b.length) && a[length] === b[length]) length++;
  return length;
}

/**
 * Resolves to the example of a text, which ends with the tokenizer's end of text. If a prompt is given, its tokens do
 * not count for the loss.
 *
 * @example
 * const { ids } = await textExample(tokenizer, "Hello", { prompt: "Say hello: " });
 */
export async function textExample(
  tokenizer: Tokenizer,
  text: string,
  { prompt = "" }: { prompt?: string } = {},
): Promise<TrainingExample> {
  const encoded = await encodeText(tokenizer, prompt + text);
  const { endOfText } = tokenizer;
  const ends = endOfText !== null && encoded.at(-1) !== endOfText;
  const ids = ends ? withLast(encoded, endOfText) : encoded;
  const mask = new Uint8Array(ids.length).fill(1);
  if (prompt !== "") mask.fill(0, 0, commonLength(ids, await encodeText(tokenizer, prompt)));
  return { ids, mask };
}
