import { chatExamples, textExample } from "./chat-examples.js";
import { asContext, commonBeginning } from "./conversation.js";
import type { TrainingExample } from "./pack-examples.js";
import type { ChatMessage } from "../tokenizer/chat-template.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import type { PreferenceRecord } from "./records.js";

/** Two answers to the same prompt. The tokens of the answers count (`mask`), those of the prompt do not. */
export interface PreferencePair {
  /** Conversation with the better answer. */
  chosen: TrainingExample;
  /** Conversation with the worse answer. */
  rejected: TrainingExample;
}

/**
 * Resolves to the examples of the better and of the worse answer. Of each, the tokens of the answer count. What both
 * answers have in common at their beginning belongs to the prompt.
 *
 * @throws ERR_ARGUMENT if the answers are messages, and the tokenizer has no chat template or rejects them.
 */
export async function preferencePair(record: PreferenceRecord, tokenizer: Tokenizer): Promise<PreferencePair> {
  return isOfTexts(record) ? pairOfTexts(record, tokenizer) : pairOfConversations(record, tokenizer);
}

type OfTexts = Extract<PreferenceRecord, { prompt: string }>;

function isOfTexts(record: PreferenceRecord): record is OfTexts {
  return typeof record.prompt === "string";
}

async function pairOfTexts(record: OfTexts, tokenizer: Tokenizer): Promise<PreferencePair> {
  const [chosen, rejected] = [record.prompt + record.chosen, record.prompt + record.rejected];
  // A prompt that is given ends where it says, whatever the answers have in common.
  const border = record.prompt.length > 0 ? record.prompt.length : commonLength(chosen, rejected);
  const example = (text: string): Promise<TrainingExample> =>
    textExample(tokenizer, text.slice(border), { prompt: text.slice(0, border) });
  return { chosen: await example(chosen), rejected: await example(rejected) };
}

async function pairOfConversations(
  { prompt, tools = null, ...answers }: Exclude<PreferenceRecord, OfTexts>,
  tokenizer: Tokenizer,
): Promise<PreferencePair> {
  const [chosen, rejected] = [
    [...prompt, ...answers.chosen],
    [...prompt, ...answers.rejected],
  ];
  const border = Math.max(prompt.length, commonBeginning(chosen, rejected));
  const example = async (messages: ChatMessage[]): Promise<TrainingExample> => {
    const learned = [...asContext(messages.slice(0, border)), ...messages.slice(border)];
    // A template that changes earlier turns gives an example for each answer; the last one is what is preferred.
    return (await chatExamples(tokenizer, learned, { tools })).at(-1)!;
  };
  return { chosen: await example(chosen), rejected: await example(rejected) };
}

/**
 * Returns the number of characters with which two texts begin alike. At least the last character of each is left, and a
 * space before the difference belongs to the answers, since tokens begin with it.
 */
function commonLength(a: string, b: string): number {
  const most = Math.min(a.length, b.length) - 1;
  let length = 0;
  while (length < most && a[length] === b[length]) length++;
  // Two halves of a character belong together.
  if (length > 0 && /[\uD800-\uDBFF]/.test(a[length - 1]!)) length--;
  return length > 0 && a[length - 1] === " " ? length - 1 : length;
}
