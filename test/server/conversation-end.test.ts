/** Tests that the text of a conversation ends with the beginning of an answer, with nothing, or within the last message. */
import { expect, test } from "vitest";
import { chatModel, start } from "./support.js";

const model = chatModel();
const user = { role: "user", content: "Why?" };
const begun = { role: "assistant", content: "So it " };

test("the prompt begins an answer, or not, or ends within the last message", async () => {
  const { answer, post } = await start({ models: { tiny: model } });
  const textOf = async (body: object): Promise<string> => {
    const { tokens } = await answer<{ tokens: number[] }>("/tokenize", body);
    return (model.tokenizer as { decode: (ids: number[], options: object) => string }).decode(tokens, {
      special: true,
    });
  };
  expect(await textOf({ messages: [user] })).toBe("user: Why?<|end|>assistant: ");
  expect(await textOf({ messages: [user], add_generation_prompt: false })).toBe("user: Why?<|end|>");
  const continued = { messages: [user, begun], continue_final_message: true, add_generation_prompt: false };
  expect(await textOf(continued)).toBe("user: Why?<|end|>assistant: So it ");
  // The template's own text after the message has the same letters.
  for (const content of ["e", "n", ": ", "|>"]) {
    const body = { ...continued, messages: [user, { role: "assistant", content }] };
    expect(await textOf(body)).toBe(`user: Why?<|end|>assistant: ${content}`);
  }
  const chat = { ...continued, max_tokens: 4, seed: 1, return_token_ids: true };
  const completion = {
    prompt: (await answer<{ tokens: number[] }>("/tokenize", continued)).tokens,
    max_tokens: 4,
    seed: 1,
  };
  const [found, expected] = [
    await answer<{ choices: { message: { content: string } }[] }>("/v1/chat/completions", chat),
    await answer<{ choices: { text: string }[] }>("/v1/completions", completion),
  ];
  expect(found.choices[0]!.message.content).toBe(expected.choices[0]!.text);
  for (const body of [
    { ...continued, add_generation_prompt: true },
    { messages: [user, { role: "assistant", content: "" }], continue_final_message: true },
  ])
    expect((await post("/v1/chat/completions", body)).status).toBe(400);
});
