/** Chat templates beside Python's Jinja2. */
import fc from "fast-check";
import { expect } from "vitest";
import { ChatTemplate } from "../../lib/tokenizer/chat-template.js";
import { hasJinja2, jinja2 } from "../support/jinja2.js";
import { anyText } from "../support/random-tokenizers.js";
import { fuzz } from "./fuzz.js";

const characters = fc.constantFrom("", "'\\n'", "' \\n'", "'the'", "'<>'");
const text = fc
  .tuple(
    fc.constantFrom("m.content", "m['content']", "(m.role + m.content)", "m.content.split('</s>')[-1]"),
    fc.constantFrom("", ".strip(ARGS)", ".lstrip(ARGS)", ".rstrip(ARGS)", " | trim", ".strip(ARGS).rstrip('e')"),
    characters,
  )
  .map(([value, change, given]) => `{{ ${value}${change.replace("ARGS", given)} }}`);
const piece = fc.oneof(
  text,
  fc.constantFrom("[", "]", "\n", "  ", "{{- m.role -}}", "{%- if loop.first %}first{% endif %}", "{{ bos_token }}"),
  fc.tuple(text, text).map(([yes, no]) => `{% if m.role == 'user' %}${yes}{% else %}\n  ${no}{% endif %}\n`),
  fc
    .tuple(text, text)
    .map(
      ([yes, no]) =>
        `{% if m.content.startswith(' ') and not loop.last %}${yes}{% elif loop.index0 > 0 %}${no}{% endif %}`,
    ),
  text.map((shown) => `{% set m2 = m.content %}${shown.replace("m.content", "m2")}`),
);
const template = fc
  .array(piece, { minLength: 1, maxLength: 6 })
  .map(
    (parts) => `{% for m in messages %}\n    ${parts.join("")}{% endfor %}{% if add_generation_prompt %}>{% endif %}`,
  );
const messages = fc.array(fc.record({ role: fc.constantFrom("user", "assistant"), content: anyText }), {
  minLength: 1,
  maxLength: 3,
});

if (hasJinja2)
  fuzz(
    "chat templates, 50 in a case",
    fc.array(fc.tuple(template, messages), { minLength: 50, maxLength: 50 }),
    { ci: 6, nightly: 400 },
    (list) => {
      const own = list.map(([source, given]) => new ChatTemplate(source, { bos_token: "<s>" }).render(given));
      const variables = { bos_token: "<s>", add_generation_prompt: true, tools: null };
      const cases = list.map(([template, messages]) => ({ template, variables: { ...variables, messages } }));
      expect(own).toEqual(jinja2(cases));
    },
  );
