/** Compares chat templates with Python's Jinja2, and runs hostile templates, which must end. */
import { readFileSync } from "node:fs";
import path from "node:path";
import fc from "fast-check";
import { expect } from "vitest";
import { HeedError } from "../../lib/index.js";
import { ChatTemplate } from "../../lib/tokenizer/chat-template.js";
import { Untrusted } from "../../lib/tokenizer/jinja/convert.js";
import { JinjaTemplate } from "../../lib/tokenizer/jinja/template.js";
import { jinja2, noJinja2 } from "../support/jinja2.js";
import { conversation } from "../support/conversations.js";
import { noReference, sharedReference } from "../support/shared.js";
import { anyText } from "../support/random-tokenizers.js";
import { fuzz } from "./fuzz.js";
import { expression, program, variables } from "./jinja-language.js";

const user = [{ role: "user", content: "Hi" }];

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

fuzz(
  "chat templates, 50 in a case",
  fc.array(fc.tuple(template, messages), { minLength: 50, maxLength: 50 }),
  { ci: 4, nightly: 400, unless: noJinja2 },
  (list) => {
    const own = list.map(([source, given]) => new ChatTemplate(source, { bos_token: "<s>" }).render(given));
    const variables = { bos_token: "<s>", add_generation_prompt: true, tools: null };
    const cases = list.map(([template, messages]) => ({ template, variables: { ...variables, messages } }));
    expect(own).toEqual(jinja2(cases).map(({ text }) => text));
  },
);

const published = sharedReference("templates");

fuzz(
  "published chat templates",
  fc.tuple(conversation, fc.boolean()),
  { ci: 3, nightly: 300, unless: noJinja2 ?? (published ? null : noReference) },
  ([
    {
      messages,
      addGenerationPrompt,
      variables: { tools, ...variables },
    },
    crlf,
  ]) => {
    const file = readFileSync(path.join(published!, "templates.json"), "utf8");
    const list = (JSON.parse(file) as { name: string; template: string }[]).map(({ name, template }) => {
      return { name, template: crlf ? template.replaceAll(/\r?\n/g, "\r\n") : template };
    });
    const own = list.map(({ name, template }) => {
      try {
        const options = { addGenerationPrompt, tools: tools as unknown[] | null, variables };
        return { name, text: new ChatTemplate(template).render(messages, options) };
      } catch (error) {
        expect(error).toBeInstanceOf(HeedError);
        return { name, text: undefined };
      }
    });
    const given = { ...variables, messages, tools, add_generation_prompt: addGenerationPrompt };
    const theirs = jinja2(list.map(({ template }) => ({ template, variables: given })));
    expect(own).toEqual(list.map(({ name }, i) => ({ name, text: theirs[i]!.text })));
  },
);

/** Removes what Python writes of an object's address, and the digits of floats that a power may round differently. */
const described = (text: string | undefined): string | undefined =>
  text
    ?.replaceAll(/ at 0x[0-9a-f]+/gi, "")
    .replaceAll(/(<|&lt;)(built-in|bound|function|generator|class|reversed|\w+_?iterator)[^<>]*?(>|&gt;)/gi, "<object>")
    .replaceAll(/\d\.\d{13,}/g, (float) => Number(float).toPrecision(14));

fuzz(
  "programs in Jinja's language, 150 in a case",
  fc.array(
    fc.oneof(
      expression.map((e) => `{{ ${e} }}`),
      program,
    ),
    { minLength: 150, maxLength: 150 },
  ),
  { ci: 2, nightly: 200, unless: noJinja2 },
  (list) => {
    const own = list.map((source) => {
      try {
        return described(new ChatTemplate(source).render(user, { variables }));
      } catch (error) {
        expect(error).toBeInstanceOf(HeedError);
        return undefined;
      }
    });
    const given = { ...variables, messages: user, tools: null, documents: null, add_generation_prompt: true };
    const theirs = jinja2(list.map((template) => ({ template, variables: given })));
    const outcomes = list.map((source, i) => ({ source, text: own[i] }));
    expect(outcomes).toEqual(list.map((source, i) => ({ source, text: described(theirs[i]!.text) })));
  },
);

fuzz(
  "programs give the same text for untrusted values, 100 in a case",
  fc.array(
    fc.oneof(
      expression.map((e) => `{{ ${e} }}`),
      program,
    ),
    { minLength: 100, maxLength: 100 },
  ),
  { ci: 3, nightly: 600 },
  (list) => {
    for (const source of list) {
      let template: JinjaTemplate;
      try {
        template = new JinjaTemplate(source, { trimBlocks: true, lstripBlocks: true, keepTrailingNewline: false, strict: false }); // prettier-ignore
      } catch {
        continue;
      }
      const rendered = (given: object): string => {
        try {
          return template.render({ variables: { ...given }, input: variables });
        } catch (error) {
          return `error: ${(error as Error).message}`;
        }
      };
      const untrusted = Object.entries(variables).map(([name, value]) => [name, new Untrusted(value)]);
      const text = rendered(Object.fromEntries(untrusted) as object);
      expect({ source, text }).toEqual({ source, text: rendered(variables) });
    }
  },
);

const value = fc.constantFrom(
  ..."ns.s ns.l range(100000) messages {'a':ns.l} [ns.l,ns.l] (ns.s~'c') (ns.s+ns.s) (ns.l+ns.l) f x loop".split(" "),
);
const use = fc.constantFrom(
  ..."tojson;join(ns.s);string;upper;title;trim;sort;unique;reverse;list;length;indent(9999);replace('a',ns.s)".split(
    ";",
  ),
);
const hostileExpression = fc.oneof(
  fc.tuple(value, use).map(([operand, filter]) => `${operand} | ${filter}`),
  fc.tuple(value, fc.constantFrom("==", "in", "~", "+", "<"), value).map((parts) => parts.join(" ")),
  fc
    .tuple(value, fc.constantFrom(".split('a')", ".strip('a')", "[1:]", "[::-1]", ".items()", "(x)", "[ns.s]"))
    .map((parts) => parts.join("")),
);
const hostile = fc.letrec<{ body: string }>((tie) => ({
  body: fc.oneof(
    { maxDepth: 5, withCrossShrink: true },
    hostileExpression.map((shown) => `{{ ${shown} }}`),
    fc
      .tuple(fc.constantFrom("x", "ns.s", "ns.l"), hostileExpression)
      .map(([name, given]) => `{% set ${name} = ${given} %}`),
    fc.tuple(value, tie("body")).map(([list, body]) => `{% for x in ${list} %}${body}{% endfor %}`),
    fc.tuple(hostileExpression, tie("body")).map(([test, body]) => `{% if ${test} %}{% else %}${body}{% endif %}`),
    tie("body").map((body) => `{% macro f(a) %}${body}{% endmacro %}`),
    tie("body").map((body) => `{% call f(x) %}${body}{% endcall %}`),
    fc.tuple(tie("body"), tie("body")).map((parts) => parts.join("")),
  ),
})).body;

fuzz("hostile chat templates", hostile, { ci: 10, nightly: 300 }, (body) => {
  const before = process.cpuUsage();
  const source = `{% set ns = namespace(s='abc', l=[1]) %}{% for i in range(18) %}{% set ns.s = ns.s + ns.s %}{% set ns.l = ns.l + ns.l %}{% endfor %}{% for x in range(100000) %}${body}{% endfor %}`;
  try {
    new ChatTemplate(source).render([{ role: "user", content: "the" }]);
  } catch (error) {
    expect(error).toBeInstanceOf(HeedError);
  }
  // Ten times the time that it takes on an idle machine.
  expect(process.cpuUsage(before).user / 1e6).toBeLessThan(10);
});
