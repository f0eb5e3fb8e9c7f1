import { chatExamples, textExample } from "../train/chat-examples.js";
import type { PreferencePair } from "../train/dpo.js";
import type { TrainingExample } from "../train/pack-examples.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import type { PreferenceRecord } from "./records.js";

/**
 * Resolves to the examples of the better and of the worse answer. Of each, the tokens of the answer count.
 *
 * @throws ERR_ARGUMENT if the answers are messages, and the tokenizer has no chat template or rejects them.
 */
export async function preferencePair(record: PreferenceRecord, tokenizer: Tokenizer): Promise<PreferencePair> {
  const example = async (which: "chosen" | "rejected"): Promise<TrainingExample> => {
    if (typeof record.prompt === "string")
      return textExample(tokenizer, record[which] as string, { prompt: record.prompt });
    const messages = [...record.prompt, ...(record[which] as typeof record.prompt)];
    // A template that changes earlier turns gives an example for each answer; the last one is what is preferred.
    return (await chatExamples(tokenizer, messages)).at(-1)!;
  };
  return { chosen: await example("chosen"), rejected: await example("rejected") };
}
