/** Random conversations, tools and further variables for chat templates. */
import fc from "fast-check";

/** A conversation with what a template may read besides it. */
export interface Conversation {
  messages: { role: string; content: string | null }[];
  addGenerationPrompt: boolean;
  variables: Record<string, unknown>;
}

const word = fc.constantFrom(
  ...["Hi", "weather in Paris", "  spaced \n", "", "é漢字😀", "<think>why</think>answer", "<|im_end|>", "</s>[INST]"],
  ...[
    "'q' \"d\"",
    "a\\b",
    "\t\u0085x\u00a0",
    "{{ x }}",
    "line\r\nline",
    "&<>",
    "\u2028",
    "null",
    "tool",
    "\u007f\u0001",
  ],
);
const text = fc.array(word, { maxLength: 3 }).map((words) => words.join(""));
const scalar = fc.oneof(text, fc.integer({ min: -5, max: 1000 }), fc.constantFrom(0.5, 1e-7, -2.25), fc.boolean(), fc.constant(null)); // prettier-ignore
const value = fc.letrec<{ v: unknown }>((tie) => ({
  v: fc.oneof(
    { maxDepth: 3 },
    scalar,
    fc.array(tie("v"), { maxLength: 3 }),
    fc.dictionary(fc.constantFrom("a", "type", "items", "x y", "é", "keys", "get"), tie("v"), { maxKeys: 3 }),
  ),
})).v;

const given = fc.dictionary(fc.constantFrom("city", "days", "flag", "z", "items"), value, { maxKeys: 3 });
const args = fc.oneof(given, given.map((object) => JSON.stringify(object)), fc.constant(null), text, fc.constant(undefined)); // prettier-ignore
const name = fc.constantFrom("get_weather", "f", "Send-Mail", "run.it");
const id = fc.constantFrom("call_1", "abcdefghi", "123456789", "x");
const called = fc.record({ name, arguments: args });
const call = fc.oneof(
  fc.record({ id, type: fc.constant("function"), function: called }, { requiredKeys: ["function"] }),
  called,
);
const part = fc.oneof(
  fc.record({ type: fc.constant("text"), text }),
  fc.record({ type: fc.constantFrom("image", "image_url", "input_text") }),
);
const content = fc.oneof(
  { weight: 40, arbitrary: text },
  { weight: 1, arbitrary: fc.constantFrom(null, undefined) },
  { weight: 2, arbitrary: fc.array(part, { maxLength: 3 }) },
  { weight: 1, arbitrary: value },
);
const some = fc.option(text, { nil: undefined });
const user = fc.record({ role: fc.constant("user"), content });
const assistant = fc.oneof(
  fc.record({ role: fc.constant("assistant"), content, reasoning_content: some, name: some, thinking: some }),
  fc.record({ role: fc.constant("assistant"), content, tool_calls: fc.oneof(fc.array(call, { maxLength: 2 }), fc.constant(null)) }), // prettier-ignore
);
const tool = fc.record({
  ...{ role: fc.constantFrom("tool", "tool", "ipython", "function"), content },
  ...{ tool_call_id: fc.option(id, { nil: undefined }), name: fc.option(name, { nil: undefined }) },
});
const turn = fc.oneof(fc.tuple(user, assistant), fc.tuple(user, assistant, tool, assistant));
const system = fc.record({ role: fc.constantFrom("system", "developer"), content });
const messages = fc
  .tuple(fc.option(system), fc.array(turn, { maxLength: 3 }), fc.option(user))
  .map(([first, turns, last]) => [...(first ? [first] : []), ...turns.flat(), ...(last ? [last] : [])])
  .filter((list) => list.length > 0);

const names = fc.constantFrom("city", "days", "items", "type");
const schema = fc.letrec<{ s: unknown }>((tie) => ({
  s: fc.oneof(
    { maxDepth: 3 },
    fc.record(
      {
        ...{ type: fc.constantFrom("string", "integer", "number", "boolean", "null"), description: text },
        ...{ enum: fc.array(scalar, { maxLength: 3 }), default: value, nullable: fc.boolean() },
        minimum: fc.constantFrom(0, 0.5, -1, 1e-6),
      },
      { requiredKeys: [] },
    ),
    fc.record({ anyOf: fc.array(tie("s"), { maxLength: 2 }) }),
    fc.record({ oneOf: fc.array(tie("s"), { maxLength: 2 }) }),
    fc.constant({ type: ["string", "null"] }),
    fc.record({ type: fc.constant("array"), items: tie("s") }, { requiredKeys: ["type"] }),
    fc.record(
      {
        ...{ type: fc.constant("object"), properties: fc.dictionary(names, tie("s"), { maxKeys: 3 }) },
        ...{ required: fc.array(names), additionalProperties: fc.oneof(fc.boolean(), tie("s")) },
      },
      { requiredKeys: ["type"] },
    ),
  ),
})).s;
const definition = fc.record(
  { name, description: text, parameters: schema, strict: fc.boolean(), return: schema },
  { requiredKeys: ["name"] },
);
const tools = fc.array(fc.oneof(fc.record({ type: fc.constant("function"), function: definition }), definition), {
  maxLength: 2,
});
const document = fc.record({ title: text, text, contents: text, n: value }, { requiredKeys: [] });
const variables = fc.record(
  {
    ...{ tools: fc.option(tools), documents: fc.option(fc.array(document, { maxLength: 2 })) },
    ...{ bos_token: fc.constant("<s>"), eos_token: fc.constantFrom("</s>", undefined) },
    ...{ enable_thinking: fc.boolean(), thinking: fc.boolean(), date_string: fc.constant("26 Jul 2024") },
    ...{ builtin_tools: fc.array(fc.constantFrom("code_interpreter", "brave_search")), custom_instructions: text },
    ...{ safety_mode: fc.constantFrom("contextual", "strict", "none"), citation_mode: fc.constantFrom("on", "off") },
  },
  { requiredKeys: ["tools", "documents", "bos_token", "eos_token"] },
);

/** Conversations as JSON has them: what is undefined is missing. */
export const conversation: fc.Arbitrary<Conversation> = fc
  .record({ messages, addGenerationPrompt: fc.boolean(), variables })
  .map((whole) => JSON.parse(JSON.stringify(whole)) as Conversation);
