// Turns conversations and texts into examples to train on. Of a conversation, the model learns the assistant's tokens
// alone.
import { HeedError } from "../util/errors.js";
import { toHuggingFaceTokenizer } from "../tokenizer/to-huggingface-tokenizer.js";
import { type ChatMessage, type ChatOptions, type ChatTemplate, renderMarked } from "../tokenizer/chat-template.js";
import { HuggingFaceTokenizer } from "../tokenizer/huggingface-tokenizer.js";
import { rangesWithin } from "../tokenizer/jinja/ranges.js";
import type { RenderedText } from "../tokenizer/jinja/template.js";
import { encodeText, type Tokenizer } from "../tokenizer/tokenizer.js";
import { type Answer, type AnsweredText, answeredTexts, type Render } from "./chat-answers.js";
import { isLearned } from "./conversation.js";
import type { TrainingExample } from "./pack-examples.js";
import { type AddedToken, commonTokens, TokenBorders } from "./token-borders.js";

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
 * answer, with the tokens that end it. If the template writes an answer in the history otherwise than it begins the
 * generation, such as without its reasoning, the tokens after the beginning that both have in common count. An answer
 * whose message has the weight 0 is context, of which no token counts.
 *
 * There is one example, unless the template changes earlier turns when later ones follow (such as one that removes their
 * reasoning); then there is one for each answer.
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
  // Templates need not know of weights.
  const shown = messages.map(({ weight: _, ...message }) => message);
  const render: Render = (some, addGenerationPrompt) => template.render(some, { ...options, addGenerationPrompt });
  const turns = messages.flatMap(({ role }, i) => (role === "assistant" ? [i] : []));
  if (turns.length === 0)
    throw new HeedError("ERR_ARGUMENT", "chatExamples: expected a message of the assistant, got none");
  const learned = turns.map((turn) => isLearned(messages[turn]!));
  const marked = renderMarked(template, shown, { ...options, addGenerationPrompt: false });
  if (marked) {
    const { answers } = marked;
    const counts = learned.every(Boolean)
      ? answers.map(() => true)
      : countedMarks(template, shown, options, { turns, learned, marks: answers.length });
    const parts = answers.flatMap(([from, end], i) => (counts[i] ? [{ prompt: { common: from, rest: "" }, end }] : []));
    return [await exampleOf(tokenizer, marked, parts)];
  }
  const texts = answeredTexts(render, shown, turns);
  const rendered = ({ messages: count }: AnsweredText): RenderedText =>
    template.renderText(shown.slice(0, count), { ...options, addGenerationPrompt: false });
  const last = texts.at(-1)!;
  if (texts.length === 1) {
    const counted = last.answers.filter((_, i) => learned[i]);
    return [await exampleOf(tokenizer, rendered(last), counted)];
  }
  const taught = texts.filter((_, i) => learned[i]);
  // A conversation without anything to learn is an example without targets.
  if (taught.length === 0) return [await exampleOf(tokenizer, rendered(last), [])];
  return Promise.all(taught.map((text) => exampleOf(tokenizer, rendered(text), text.answers)));
}

/** Returns which of the template's marks belong to answers that are learned. */
function countedMarks(
  template: ChatTemplate,
  messages: readonly ChatMessage[],
  options: ChatOptions,
  { turns, learned, marks }: { turns: readonly number[]; learned: readonly boolean[]; marks: number },
): boolean[] {
  if (marks === turns.length) return [...learned];
  // There is more than one mark in an answer, or none: those of an answer are the ones that its message adds.
  const counts = Array.from({ length: marks }, () => false);
  let before = 0;
  for (const [i, turn] of turns.entries()) {
    const given = { ...options, addGenerationPrompt: false };
    const after = renderMarked(template, messages.slice(0, turn + 1), given)!.answers.length;
    if (learned[i]) counts.fill(true, before, after);
    before = after;
  }
  return counts;
}

/** Resolves to the example of a text. The tokens of the answers in it count for the loss. */
async function exampleOf(
  tokenizer: HuggingFaceTokenizer,
  { text, untrusted }: RenderedText,
  answers: readonly Answer[],
): Promise<TrainingExample> {
  const encode = (from: number, to: number, rest: string): Promise<Int32Array> =>
    tokenizer.encodeRenderedAsync({
      text: text.slice(from, to) + rest,
      untrusted: rangesWithin(untrusted, from, to),
    });
  const ids = await encode(0, text.length, "");
  const mask = new Uint8Array(ids.length);
  const borders = new TokenBorders(text, ids, addedTokens(tokenizer), encode);
  for (const { prompt, end } of answers)
    mask.fill(1, await borders.before(prompt.common, prompt.rest), await borders.before(end));
  return { ids, mask };
}

/** Returns the tokens that a text has wherever it contains their own texts, without the white space after them. */
function addedTokens(tokenizer: HuggingFaceTokenizer): AddedToken[] {
  const { added_tokens: all = [] } = tokenizer.toFile().tokenizer as { added_tokens?: readonly FileToken[] };
  return all.filter((token) => !token.normalized && !token.single_word && !token.rstrip && token.content !== "");
}

interface FileToken extends AddedToken {
  readonly normalized?: boolean;
  readonly single_word?: boolean;
  readonly rstrip?: boolean;
}

function withLast(ids: Int32Array, last: number): Int32Array {
  const all = new Int32Array(ids.length + 1);
  all.set(ids);
  all[ids.length] = last;
  return all;
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
  if (prompt !== "") mask.fill(0, 0, commonTokens(ids, await encodeText(tokenizer, prompt)));
  return { ids, mask };
}
