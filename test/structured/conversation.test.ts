/** Conversations for chat templates that cannot show all of them. */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { conversationFor, encodeConversation } from "../../lib/structured/conversation.js";
import { toolFormatOf } from "../../lib/structured/tool-format.js";
import { type ChatMessage, ChatTemplate } from "../../lib/tokenizer/chat-template.js";
import { TemplateAbilities } from "../../lib/tokenizer/template-abilities.js";
import type { Tool } from "../../lib/tokenizer/tools.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import { byteLevelJson } from "../tokenizer/fixtures.js";
import { noReference, sharedReference } from "../support/shared.js";
import { describeUnless } from "../support/skip.js";

const tools: Tool[] = [
  {
    name: "weather",
    description: "Tells the weather.",
    parameters: { type: "object", properties: { city: { type: "string", description: "City" } }, required: ["city"] },
  },
];
const system: ChatMessage = { role: "system", content: "Be brief." };
const user: ChatMessage = { role: "user", content: "Rain in Rome?" };
const called: ChatMessage = {
  ...{ role: "assistant", content: null },
  toolCalls: [{ id: "abcdefghi", name: "weather", arguments: '{"city": "Rome"}' }],
};
const result: ChatMessage = { role: "tool", content: "It is sunny.", name: "weather", toolCallId: "abcdefghi" };
const answer: ChatMessage = { role: "assistant", content: "No." };
const next: ChatMessage = { role: "user", content: "And in Oslo?" };

/** Returns the text of a conversation as the template shows it. */
function shown(source: string, messages: readonly ChatMessage[], given: readonly Tool[] = []): string {
  const template = new ChatTemplate(source, { bos_token: "", eos_token: "</s>", strftime_now: () => "1 May 2026" });
  const conversation = conversationFor(template, messages, given);
  return template.render(conversation.messages, { tools: conversation.tools, addGenerationPrompt: false });
}

const chatml = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}";
/** Template like that of Gemma 2: turns alternate, and it refuses messages of the system. */
const alternating =
  "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" +
  "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns') }}{% endif %}" +
  "<{{ m.role }}>{{ m.content | trim }}{% endfor %}";
const silent = "{% for m in messages %}{% if m.role != 'system' %}<{{ m.role }}>{{ m.content }}{% endif %}{% endfor %}";
const native =
  "{{ tools | tojson if tools else '' }}{% for m in messages %}<{{ m.role }}>{{ m.content if m.content is not none else '-' }}" +
  "{% for c in m.tool_calls or [] %}[{{ c.function.name }} {{ c.function.arguments | tojson }}]{% endfor %}{% endfor %}";
const description =
  "You can call the following functions. Each line is one of them, with the JSON schema of its arguments:\n" +
  '{"name":"weather","description":"Tells the weather.","parameters":{"type":"object","properties":{"city":{"type":"string","description":"City"}},"required":["city"]}}\n' +
  "\nTo call a function, answer in exactly this form, with the function's name and its arguments:\n" +
  '<tool_call>\n{"name": "function_name", "arguments": {"argument": "value"}}\n</tool_call>\n' +
  "\nThe result of a call comes in a later message. Call a function only if it helps; otherwise answer in words.";
const call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>';
const response = "<tool_response>\nIt is sunny.\n</tool_response>";

test("a template that shows all gets it as it is", () => {
  const messages = [system, user, called, result, answer, next];
  const template = new ChatTemplate(native);
  const conversation = conversationFor(template, messages, tools);
  expect(conversation.messages).toEqual(messages);
  expect(conversation.describesTools).toBe(false);
  expect(shown(native, messages)).toBe(
    '<system>Be brief.<user>Rain in Rome?<assistant>-[weather {"city": "Rome"}]<tool>It is sunny.<assistant>No.<user>And in Oslo?',
  );
});

test("tools are described in the system message, and calls are written in the answers", () => {
  expect(shown(chatml, [user], tools)).toBe(`<|system|>${description}\n<|user|>Rain in Rome?\n`);
  expect(shown(chatml, [system, user, called, result], tools)).toBe(
    `<|system|>Be brief.\n\n${description}\n<|user|>Rain in Rome?\n<|assistant|>${call}\n<|tool|>It is sunny.\n`,
  );
  // Without tools, as in the last request of an agent, the calls are there nevertheless.
  expect(shown(chatml, [user, { ...called, content: "I look." }, result])).toBe(
    `<|user|>Rain in Rome?\n<|assistant|>I look.\n${call}\n<|tool|>It is sunny.\n`,
  );
});

test("results come from the user if the template has no other place, and turns alternate", () => {
  expect(shown(alternating, [system, user, called, result, result, answer, next], tools)).toBe(
    `<user>Be brief.\n\n${description}\n\nRain in Rome?<assistant>${call}<user>${response}\n${response}<assistant>No.<user>And in Oslo?`,
  );
  expect(shown(alternating, [user, called, result, next])).toBe(
    `<user>Rain in Rome?<assistant>${call}<user>${response}\n\nAnd in Oslo?`,
  );
});

test("what the system says is said by the user if the template drops or refuses it", () => {
  for (const source of [alternating, silent]) {
    expect(shown(source, [system, user])).toBe("<user>Be brief.\n\nRain in Rome?");
    expect(shown(source, [user, answer, system, next])).toBe(
      "<user>Rain in Rome?<assistant>No.<user>Be brief.\n\nAnd in Oslo?",
    );
    expect(shown(source, [system])).toBe("<user>Be brief.");
    expect(shown(source, [user, answer, system])).toBe("<user>Rain in Rome?<assistant>No.<user>Be brief.");
  }
  expect(shown(chatml, [user, answer, system, next])).toContain("<|system|>Be brief.");
});

test("arguments are a text for a template that joins texts, and content is empty for one that joins it", () => {
  const joins =
    "{% for m in messages %}{{ '<' + m.role + '>' + m.content }}{% for c in m.tool_calls or [] %}{{ c.function.name + ' ' + c.function.arguments }}{% endfor %}{% endfor %}";
  expect(shown(joins, [user, called, result])).toBe(
    '<user>Rain in Rome?<assistant>weather {"city": "Rome"}<tool>It is sunny.',
  );
  const prints =
    "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.function.arguments }}{% endfor %}{% endfor %}";
  expect(shown(prints, [user, called])).toBe('{"city": "Rome"}');
});

test("tools of Phi's system message", () => {
  const phi =
    "{% for m in messages %}{% if m.role == 'system' and 'tools' in m and m['tools'] is not none %}{{ '<|system|>' + m.content + '<|tool|>' + m['tools'] + '<|/tool|><|end|>' }}" +
    "{% else %}{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endif %}{% endfor %}";
  const json = JSON.stringify(tools);
  expect(shown(phi, [system, user, called, result], tools)).toBe(
    `<|system|>Be brief.<|tool|>${json}<|/tool|><|end|><|user|>Rain in Rome?<|end|>` +
      '<|assistant|><|tool_call|>[{"name": "weather", "arguments": {"city": "Rome"}}]<|/tool_call|><|end|><|tool|>It is sunny.<|end|>',
  );
});

test("tools that make the template fail are described", async () => {
  const picky =
    "{% for t in tools or [] %}{% for p in t.function.parameters.properties.values() %}{{ t.function.name + p.type[0] }}{% endfor %}{% endfor %}" +
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}";
  const tokenizer = new HuggingFaceTokenizer(byteLevelJson(), { chatTemplate: picky });
  const encode = (parameters: object, given = [user]) =>
    encodeConversation(tokenizer, given, [{ name: "f", parameters: { properties: { a: parameters } } }], {});
  expect(tokenizer.decode((await encode({ type: "string" })).tokens)).toBe("fs<user>Rain in Rome?");
  const { tokens, describesTools } = await encode({ anyOf: [{ type: "string" }] });
  expect(describesTools).toBe(true);
  expect(tokenizer.decode(tokens)).toMatch(/^<system>You can call.*"anyOf".*<user>Rain in Rome\?$/s);
  await expect(encode({ type: "string" }, [])).rejects.toThrow(/at least one message/);
});

test("a template that fails whatever it is given keeps its own error", () => {
  const failing = "{{ raise_exception('never') }}";
  expect(() => shown(failing, [user], tools)).toThrow(/never/);
  expect(() => shown(failing, [], tools)).toThrow(/at least one message/);
});

describeUnless(sharedReference("templates") ? false : noReference)("templates of published models", () => {
  const templates = (): { name: string; template: string }[] =>
    JSON.parse(readFileSync(`${sharedReference("templates")!}/templates.json`, "utf8")) as {
      name: string;
      template: string;
    }[];

  test("show tools, calls, results and instructions, each in its way or as text", () => {
    for (const { name, template } of templates()) {
      // One begins with a list of functions, and one judges the last message.
      if (["fireworks-ai/firefunction-v1", "meta-llama/Llama-Guard-3-11B-Vision"].includes(name)) continue;
      const text = shown(template, [system, user, called, result, answer, next], tools);
      for (const part of ["Be brief.", "Rain in Rome?", "weather", "city", "Rome", "It is sunny.", "And in Oslo?"])
        expect(text, name).toContain(part);
      expect(text.split("weather").length - 1, `${name}: the tool and its call`).toBeGreaterThanOrEqual(2);
    }
  });

  test.each([
    ["LiquidAI/LFM2.5-VL-450M", "<|tool_call_start|>"],
    ["zai-org/GLM-5.1", "<tool_call>"],
    ["CohereLabs/command-a-reasoning-08-2025", "<|START_ACTION|>"],
    ["ai21labs/AI21-Jamba-Large-1.6", "<tool_calls>"],
    ["HuggingFaceTB/SmolLM3-3B", "<tool_call>"],
    ["Qwen/Qwen2.5-7B-Instruct", "<tool_call>"],
    ["mistralai/Mistral-Nemo-Instruct-2407", "[TOOL_CALLS]"],
    ["meta-llama/Llama-3.1-8B-Instruct", "<|python_tag|>"],
  ])("%s writes calls after %s, as its template does", (model, marker) => {
    const { template } = templates().find(({ name }) => name === model)!;
    const format = toolFormatOf(template, tools)!;
    expect(format.marker).toBe(marker);
    const written = format.write([{ name: "weather", arguments: '{"city": "Rome"}' }]);
    const made = new ChatTemplate(template, { bos_token: "", eos_token: "</s>", strftime_now: () => "1 May 2026" });
    if (!TemplateAbilities.of(made).calls || model.startsWith("Cohere")) return;
    const plain = (text: string) =>
      text
        .replaceAll(/\s/g, "")
        .replace(/,"id":"\w+"/, "")
        .replaceAll("'", '"');
    expect(plain(shown(template, [user, called, result, answer, next], tools))).toContain(plain(written));
  });
});

describe("abilities", () => {
  test("are those of the template", () => {
    const of = (source: string) => {
      const { system, laterSystem, severalUsers, tools, toolsOfSystem, calls, results } = TemplateAbilities.of(
        new ChatTemplate(source),
      );
      return { system, laterSystem, severalUsers, tools, toolsOfSystem, calls: calls !== null, results };
    };
    const all = { system: true, laterSystem: true, severalUsers: true, toolsOfSystem: false };
    expect(of(native)).toEqual({ ...all, tools: true, calls: true, results: true });
    expect(of(chatml)).toEqual({ ...all, tools: false, calls: false, results: true });
    expect(of(alternating)).toEqual({
      ...{ system: false, laterSystem: false, severalUsers: false, tools: false, toolsOfSystem: false, calls: false },
      results: false,
    });
  });

  test("a template that takes long is taken to show everything, without being waited for", () => {
    const long = "{% for i in range(100000) %}{% for j in range(100) %}x{% endfor %}{% endfor %}";
    const start = performance.now();
    expect(TemplateAbilities.of(new ChatTemplate(long)).tools).toBe(true);
    expect(performance.now() - start).toBeLessThan(2000);
  });
});
