// Finds the assistant's answers in the text of a conversation: each follows the prompt with which its generation begins.
//
// A template can only be asked for the text of whole conversations. If each answer were found from the text of all
// messages before it, the time would grow with the square of the number of turns. Most templates write each turn in the
// same way wherever it stands; their answers are found from the text of the first turns and the one turn. Each piece is
// compared with the text of the whole conversation, and a template that fails to write it so is asked the long way.
import { describe, HeedError } from "../util/errors.js";
import type { ChatMessage } from "../tokenizer/chat-template.js";

/** Text with which an answer's generation begins: the first `common` characters of the conversation's text, and `rest`. */
export interface AnswerPrompt {
  common: number;
  /** Rest of the prompt, which the conversation's text does not repeat, such as the tag that opens a reasoning. */
  rest: string;
}

/** Answer in the text of a conversation. */
export interface Answer {
  prompt: AnswerPrompt;
  /** End of the answer in the text. */
  end: number;
}

/** Answers in one text. */
export interface AnsweredText {
  text: string;
  /** Number of messages whose text it is. */
  messages: number;
  answers: Answer[];
}

/** Returns the text of messages, perhaps with the prompt of an answer. */
export type Render = (messages: readonly ChatMessage[], addGenerationPrompt: boolean) => string;

/** Fewest turns for which the short way is tried. */
const manyTurns = 5;

/**
 * Returns the texts of a conversation with the answers in them, those at the indices `turns`. There is one text, unless
 * the template changes earlier turns when later ones follow; then there is one for each answer.
 *
 * @throws ERR_ARGUMENT if the template does not continue a prompt with its answer.
 */
export function answeredTexts(
  render: Render,
  messages: readonly ChatMessage[],
  turns: readonly number[],
): AnsweredText[] {
  if (turns.length >= manyTurns) {
    const text = render(messages, false);
    const answers = localAnswers(render, messages, turns, text);
    if (answers) return [{ text, messages: messages.length, answers }];
  }
  return answeredTextsSlowly(render, messages, turns);
}

/** @internal Does the same as `answeredTexts`, with the text of all messages up to each answer. */
export function answeredTextsSlowly(
  render: Render,
  messages: readonly ChatMessage[],
  turns: readonly number[],
): AnsweredText[] {
  const text = render(messages, false);
  const ended = turns.map((turn) => {
    const end = render(messages.slice(0, turn + 1), false);
    const answer = { prompt: promptOf(render, messages, turn, end), end: end.length };
    return { text: end, messages: turn + 1, answers: [answer] };
  });
  if (!ended.every((one) => text.startsWith(one.text))) return ended;
  return [{ text, messages: messages.length, answers: ended.flatMap(({ answers }) => answers) }];
}

/**
 * Returns the prompt of the answer with the index `turn`, after which the conversation's text is `end`.
 *
 * @throws ERR_ARGUMENT if the answer does not continue its prompt, and differs from it earlier than where the messages
 *   before the answer end.
 */
function promptOf(render: Render, messages: readonly ChatMessage[], turn: number, end: string): AnswerPrompt {
  if (turn === 0) return { common: 0, rest: "" };
  const before = messages.slice(0, turn);
  const prompt = render(before, true);
  if (end.startsWith(prompt)) return { common: prompt.length, rest: "" };
  // Some templates open the reasoning in the prompt and leave it out of the history: the two differ after the messages.
  const context = render(before, false);
  if (prompt.startsWith(context) && end.startsWith(context)) {
    const common = commonLength(prompt, end);
    return { common, rest: prompt.slice(common) };
  }
  throw new HeedError(
    "ERR_ARGUMENT",
    `chatExamples: expected a chat template that continues the prompt of an answer with the answer, or marks it with {% generation %}; got the prompt ${describe(prompt.slice(-40))}`,
  );
}

/** Returns the answers in the text of a conversation, or null if the template does not write each turn in the same way. */
function localAnswers(
  render: Render,
  messages: readonly ChatMessage[],
  turns: readonly number[],
  text: string,
): Answer[] | null {
  // A part begins after each answer; or only where a user speaks, if calls of tools belong to the part of their answer.
  const after = turns.map((turn) => turn + 1).filter((at) => at < messages.length);
  for (const starts of [after, after.filter((at) => messages[at]!.role === "user")]) {
    if (starts.length < 2) continue;
    try {
      const answers = answersInParts(render, messages, { turns, starts, text });
      if (answers) return answers;
    } catch (error) {
      // The template may refuse a conversation that jumps from the first turns to a later one.
      if (!(error instanceof HeedError)) throw error;
    }
  }
  return null;
}

function answersInParts(
  render: Render,
  messages: readonly ChatMessage[],
  { turns, starts, text }: { turns: readonly number[]; starts: readonly number[]; text: string },
): Answer[] | null {
  const first = messages.slice(0, starts[0]);
  const head = render(first, false);
  if (!text.startsWith(head)) return null;
  const answers: Answer[] = [];
  let at = 0;
  for (; turns[at]! < first.length; at++) {
    const end =
      at + 1 < turns.length && turns[at]! + 1 < first.length ? render(first.slice(0, turns[at]! + 1), false) : head;
    if (!text.startsWith(end)) return null;
    answers.push({ prompt: promptOf(render, messages, turns[at]!, end), end: end.length });
  }
  let place = head.length;
  for (const [i, start] of starts.entries()) {
    const next = starts[i + 1] ?? messages.length;
    const shown = [...first, ...messages.slice(start, next)];
    let end = "";
    for (; turns[at]! < next; at++) {
      const turn = turns[at]! - start + first.length;
      end = render(shown.slice(0, turn + 1), false);
      const part = end.slice(head.length);
      if (!end.startsWith(head) || !text.startsWith(part, place)) return null;
      const { common, rest } = promptOf(render, shown, turn, end);
      if (common < head.length) return null;
      answers.push({ prompt: { common: place + common - head.length, rest }, end: place + part.length });
    }
    if (i === starts.length - 1) break;
    if (turns[at - 1] !== next - 1) end = render(shown, false);
    if (!end.startsWith(head) || !text.startsWith(end.slice(head.length), place)) return null;
    place += end.length - head.length;
  }
  return isPromptOf(render, messages, turns.at(-1)!, { text, answer: answers.at(-1)! }) ? answers : null;
}

/** Returns true if the last answer has the same prompt after all messages before it. */
function isPromptOf(
  render: Render,
  messages: readonly ChatMessage[],
  turn: number,
  { text, answer }: { text: string; answer: Answer },
): boolean {
  const { common, rest } = answer.prompt;
  return render(messages.slice(0, turn), true) === text.slice(0, common) + rest;
}

/** Returns the number of characters with which two texts begin alike. */
function commonLength(a: string, b: string): number {
  const most = Math.min(a.length, b.length);
  let length = 0;
  while (length < most && a.charCodeAt(length) === b.charCodeAt(length)) length++;
  return length;
}
