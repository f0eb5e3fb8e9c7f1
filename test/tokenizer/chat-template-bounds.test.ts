/** A chat template from a stranger must not hold up the event loop for long or exhaust memory. */
import { describe, expect, it } from "vitest";
import { type ChatMessage, ChatTemplate, HeedError } from "../../lib/index.js";
import { expectError } from "../support/errors.js";

const user = [{ role: "user", content: "hi" }];
/** Doubles a text, or a list, 19 times. */
const space = "{% set ns = namespace(s='ab', l=[1]) %}";
const text = `${space}{% for i in range(19) %}{% set ns.s = ns.s + ns.s %}{% endfor %}`;
const list = `${space}{% for i in range(19) %}{% set ns.l = ns.l + ns.l %}{% endfor %}`;
/** A list that contains another list twice, and so on. */
const shared = `${space}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}`;
const often = (body: string): string => `{% for i in range(100000) %}${body}{% endfor %}`;

function failure(source: string, messages: readonly ChatMessage[] = user): HeedError {
  try {
    new ChatTemplate(source).render(messages);
  } catch (error) {
    if (error instanceof HeedError) return error;
    throw error;
  }
  throw new Error("expected an error");
}

describe("a hostile chat template", () => {
  it.each([
    ["a range that no memory holds", "{{ range(1000000000) }}", /range\(\) of at most 100000 numbers, got 1000000000/],
    ["loops in loops", often(often("x")), /at most \d+ steps/],
    ["loops without a body", often(often("")), /steps/],
    ["loops that begin again", often(often("{% continue %}")), /steps/],
    ["a text that doubles", `${space}${often("{% set ns.s = ns.s ~ ns.s %}")}{{ ns.s }}`, /characters of text/],
    ["a list that doubles", `${space}${often("{% set ns.l = ns.l + ns.l %}")}`, /lists of at most \d+ items/],
    ["a list that is repeated", "{{ [1] * 1000000000 }}", /lists of at most \d+ items/],
    ["a text that is repeated", "{{ 'ab' * 1000000000 }}", /characters of text/],
    ["a number of many digits", "{{ 10 ** 1000000 }}", /integers of at most 32768 bits/],
    [
      "a number that is squared again and again",
      `${space}{% set ns.s = 10 %}${often("{% set ns.s = ns.s * ns.s %}")}`,
      /bits/,
    ],
    ["padding", "{{ 'a' | center(1000000000) }}", /characters of text/],
    ["padding as a method", "{{ 'a'.rjust(1000000000) }}", /characters of text/],
    ["padding in a format", "{{ '%1000000000d' % 1 }}", /characters of text/],
    ["padding in a format's field", "{{ '{:1000000000}'.format(1) }}", /characters of text/],
    ["formats of formats", text + often("{% set x = ns.s % () %}"), /steps/],
    ["lengths", text + often("{% set x = ns.s | length %}"), /steps/],
    ["fields of a format without an end", "{% set x = ('{[' * 400000).format(1) %}", /steps/],
    ["tags without an end", "{% set x = ('<' * 900000) | striptags %}", /steps/],
    ["long numbers", often("{% set x = ('9' * 4000) | int %}"), /steps/],
    ["batches", "{{ [1] | batch(1000000000, 'x') | list }}", /characters of text|steps/],
    ["slices of a list", "{{ [1] | slice(1000000000) | list }}", /steps/],
    ["tabs", "{{ 'a\\x09'.expandtabs(1000000000) }}", /characters of text/],
    ["a range that is read again and again", often("{% set x = range(100000) | sum %}"), /steps/],
    ["a text written again and again", text + often("{{ ns.s }}"), /characters of text/],
    ["a text searched again and again", text + often("{% if 'c' in ns.s %}{% endif %}"), /steps/],
    ["texts compared", text + often("{% if (ns.s ~ 'c') == (ns.s ~ 'd') %}{% endif %}"), /steps/],
    ["texts as keys", text + often("{% set x = {(ns.s ~ 'c'): 1} %}"), /steps/],
    ["texts with a character taken out", text + often("{% set x = (ns.s ~ 'c')[1] %}"), /steps/],
    ["texts cut", text + often("{% set x = ns.s[1:] %}"), /steps/],
    ["texts stripped", text + often("{% set x = ns.s.strip('x') %}"), /steps/],
    ["texts split", text + often("{% set ns.l = ns.l + ns.s.split('a') %}"), /steps/],
    ["texts in capitals", text + often("{% filter upper %}{{ ns.s }}{% endfilter %}"), /characters of text/],
    ["replace", `${text}{{ ns.s.replace('a', ns.s) }}`, /characters of text/],
    ["replace with what is spread", `${text}{{ ns.s.replace(*['a', ns.s]) }}`, /characters of text/],
    ["replace as a filter", `${text}{{ ns.s | replace('', ns.s) }}`, /characters of text/],
    ["join", `${text}{{ range(100000) | join(ns.s) }}`, /characters of text/],
    ["indent", "{{ 'a\\nb' | indent(1000000000) }}", /characters of text/],
    ["indented JSON", "{{ [1, [2]] | tojson(indent=1000000000) }}", /characters of text/],
    ["lists searched", list + often("{% if 2 in ns.l %}{% endif %}"), /steps/],
    ["a list compared with itself", list + often("{% if ns.l < ns.l %}{% endif %}"), /steps/],
    ["lists of the same items", `${list}{% set x = ns.l + [] %}${often("{% if x == ns.l %}{% endif %}")}`, /steps/],
    ["lists sorted", list + often("{% set x = ns.l | sort %}"), /characters|steps/],
    ["lists spread", `{% macro f() %}{{ varargs }}{% endmacro %}${list}${often("{{ f(*ns.l) }}")}`, /characters|steps/],
    ["a list of itself as JSON", `${shared}{{ ns.l | tojson }}`, /characters of text|steps/],
    ["a list of itself as text", `${shared}{{ ns.l }}`, /characters of text|steps/],
    ["a list of itself joined", `${shared}{{ ns.l | join }}`, /characters of text|steps/],
    [
      "lists of themselves compared",
      `${shared}{% set ns.m = [1] %}{% for i in range(60) %}{% set ns.m = [ns.m, ns.m] %}{% endfor %}{{ ns.l == ns.m }}`,
      /steps/,
    ],
    ["a list of itself joined to another", `${shared}{{ ns.l ~ ns.l }}`, /characters of text|steps/],
    ["lists joined to lists", list + often("{% if [ns.l] ~ ns.l %}{% endif %}"), /characters|steps/],
    ["nested values", `${space}${often("{% set ns.l = [ns.l] %}")}{{ ns.l }}`, /nested at most 256 deep/],
    ["a macro that calls itself", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", /nested at most 256 deep/],
    [
      "a macro that calls itself twice",
      "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
      /steps/,
    ],
    ["many dates", often("{{ strftime_now('%B') }}"), /steps/],
  ])("ends at a bound: %s", (_, source, message) => {
    const before = process.cpuUsage();
    const error = failure(source);
    const { user: own } = process.cpuUsage(before);
    expect(error.code).toBe("ERR_RANGE");
    expect(error.message).toMatch(message);
    // The error names the template.
    expect(error.message).toContain(source.slice(0, 20).replaceAll("\\", "\\\\"));
    // It takes a tenth of that on an idle machine.
    expect(own / 1e6).toBeLessThan(10);
  });

  it("is allowed no more because of its model's data", () => {
    const template = new ChatTemplate("{% for i in range(9) %}{{ bos_token }}{% endfor %}", {
      bos_token: "x".repeat(200_000),
    });
    expectError(() => template.render(user), "ERR_RANGE", /at most \d+ characters of text/);
  });

  it.each([
    ["too long", "x".repeat(2 ** 18 + 1), /at most 262144 characters, got 262145/],
    ["of parentheses", `{{ ${"(".repeat(50_000)}1${")".repeat(50_000)} }}`, /nested/],
    ["of operators", `{{ 1${"+1".repeat(10_000)} }}`, /nested/],
    ["of blocks", "{% if 1 %}".repeat(10_000) + "{% endif %}".repeat(10_000), /nested/],
    ["of signs", `{{ ${"- ".repeat(50_000)}1 }}`, /nested/],
  ])("is no template when it is %s", (_, source, message) => {
    const error = failure(source);
    expect(error.code).toBe("ERR_FORMAT");
    expect(error.message).toMatch(message);
  });

  it("is refused with a list whose text would be long", () => {
    expect(failure(`${shared}{{ raise_exception(ns.l) }}`).message).toMatch(/characters of text|steps/);
    expect(failure("{{ raise_exception('no system role') }}")).toMatchObject({
      code: "ERR_ARGUMENT",
      message: expect.stringMatching(/no system role/) as string,
    });
  });
});

describe("a harmless chat template", () => {
  const render = (source: string): string => new ChatTemplate(source).render(user);

  it("may use all of range(), as in Jinja2's sandbox", () => {
    expect(render("{% for i in range(100000) %}x{% endfor %}")).toBe("x".repeat(100_000));
    expect(render("{{ range(5) | join(' ') }};{{ range(7, 1, -2) | join(' ') }};{{ range(3, 3) | length }}")).toBe(
      "0 1 2 3 4;7 5 3;0",
    );
  });

  it("keeps the effects of operands, calls and filters", () => {
    expect(render("{{ {'b': 2, 'a': 1} | dictsort }}{{ ('a' ~ 'b').replace('a', 'c', count=1) }}")).toBe(
      "[('a', 1), ('b', 2)]cb",
    );
    expect(render("{% filter upper %}{{ messages[-1]['content'][::-1] }}{% endfilter %}")).toBe("IH");
    expect(
      render("{% macro f(a, b=2) %}{{ a }}{{ b }}{{ caller() }}{% endmacro %}{% call f(*[1]) %}!{% endcall %}"),
    ).toBe("12!");
    expect(render("{% macro f() %}{{ kwargs.x }}{{ varargs }}{% endmacro %}{{ f(1, **{'x': 3}) }}")).toBe("3(1,)");
    expect(render("{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | join }}")).toBe(
      "hi",
    );
    expect(render("{{ messages[0].get('name', 'none') }}{{ messages[0].items() | list | length }}")).toBe("none2");
    expect(render("{{ none is none and x is not defined and 'a' is string }}{{ 1 if x else 2 }}")).toBe("True2");
  });

  it("may be mostly white space", () => {
    const spaces = "\n ".repeat(60_000);
    expect(render(`${spaces}{%- if true -%}${spaces}x{% endif %}`)).toBe("x");
  });

  const whole =
    "{%- if tools %}{{- '<tools>' }}{%- for tool in tools %}{{- tool | tojson(indent=2) }}{%- endfor %}{{- '</tools>' }}{%- endif %}" +
    "{%- set ns = namespace(last=messages | length - 1, seen='') %}" +
    "{%- for message in messages[::-1] %}{%- set index = (messages | length - 1) - loop.index0 %}" +
    "{%- if ns.last < 0 and message.role == 'user' and not (message.content.startswith('<tool>') and message.content.endswith('</tool>')) %}" +
    "{%- set ns.last = index %}{%- endif %}{%- endfor %}" +
    "{%- for message in messages %}" +
    "{%- if loop.index0 > 0 and messages[loop.index0 - 1].role == message.role %}{{ raise_exception('roles must alternate') }}{%- endif %}" +
    "{%- if '</think>' in message.content %}{%- set content = message.content.split('</think>')[-1].lstrip('\\n') %}" +
    "{%- else %}{%- set content = message.content | trim %}{%- endif %}" +
    "{%- set ns.seen = ns.seen + content %}" +
    "{{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}" +
    "{%- if message.tool_calls %}{%- for call in message.tool_calls %}{{- call.function.arguments | tojson }}{%- endfor %}{%- endif %}" +
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}";

  it("renders 10,000 messages, and tools of a megabyte", () => {
    const messages = Array.from({ length: 10_000 }, (_, i) => ({
      role: i % 2 ? "assistant" : "user",
      content: `${"word ".repeat(40)}${i}`,
      ...(i % 2 && { tool_calls: [{ function: { name: "f", arguments: { city: "Paris", days: i } } }] }),
    }));
    const tools = Array.from({ length: 1000 }, (_, i) => ({
      type: "function",
      function: {
        name: `f${i}`,
        description: "d".repeat(600),
        parameters: { type: "object", properties: { a: {}, b: {} } },
      },
    }));
    const output = new ChatTemplate(whole).render(messages, { tools });
    expect(output).toContain(`word 9999<|im_end|>\n{"city": "Paris", "days": 9999}<|im_start|>assistant\n`);
    expect(output.split("<|im_start|>")).toHaveLength(10_002);
  });

  it("renders one message of ten megabytes", () => {
    const content = "word ".repeat(2_000_000);
    expect(new ChatTemplate(whole).render([{ role: "user", content }]).length).toBeGreaterThan(content.length - 10);
  });
});
