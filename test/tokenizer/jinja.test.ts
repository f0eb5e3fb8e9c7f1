/** Chat templates give the texts of Python's Jinja2, with the settings of Hugging Face's transformers. */
import { describe, expect, it, test, vi } from "vitest";
import { ChatTemplate } from "../../lib/index.js";
import { strftime } from "../../lib/tokenizer/jinja/date.js";
import { expectError } from "../support/errors.js";
import { noJinja2, jinja2 } from "../support/jinja2.js";
import { testUnless } from "../support/skip.js";

const user = [{ role: "user", content: "Hi" }];
const render = (source: string, variables: Record<string, unknown> = {}): string =>
  new ChatTemplate(source).render(user, { variables });

describe("values are Python's", () => {
  it.each([
    ["{{ none }} {{ true }} {{ [1, 'a', none, 3.0] }} {{ {'a': 1, 2: \"it's\"} }}", `None True [1, 'a', None, 3.0] {'a': 1, 2: "it's"}`],
    ["{{ none | string }}|{{ {'a': none} | string }}|{{ x | string }}", "None|{'a': None}|"],
    ["{{ 'developer label node zone' | title }} {{ 'dan'.capitalize() }} {{ '\u01c6a \u01f3'.title() }} {{ 'lZ'.title().istitle() }}", "Developer Label Node Zone Dan \u01c5a \u01f2 True"],
    ["{{ 'გამარჯობა ŉ ß ж'.title() }}|{{ 'გამ'.capitalize() }}", "გამარჯობა ʼN Ss Ж|გამ"],
    ["{{ -2 ** x }} {{ (-2) ** x }} {{ -2 ** 2 }} {{ (-x) ** 2 }}".replaceAll("x", "(messages | length + 1)"), "-4 -4 4 4"],
    ["{{ 1e-5 }} {{ 1e16 }} {{ 10 / 2 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 2 ** 100 }} {{ 2 ** -1 }}", "1e-05 1e+16 5.0 3 -4 2 1267650600228229401496703205376 0.5"],
    ["{{ '1' == 1 }} {{ 1 == 1.0 == true }} {{ x == none }} {{ x == y }} {{ {1: 'a'}[true] }}", "False True False True a"],
    ["{{ {'a': 1}[x] }}{{ {'a': 1}.b }}{{ x is defined }}{{ (1 if false) is defined }}", "FalseFalse"],
    ["{{ dict(a=1, b=dict()) }} {{ range(3) }} {{ {'a': 1}.items() }} {{ (1,) }} {{ [] is iterable }}", "{'a': 1, 'b': {}} range(0, 3) dict_items([('a', 1)]) (1,) True"],
    ["{{ '😀é' | length }} {{ '😀éx'[::-1] }} {{ '😀x'[1] }} {{ 'a😀b'.find('b') }}{% for c in '😀é' %}-{{ c }}{% endfor %}", "2 xé😀 x 2-😀-é"],
    ["{{ [] | select }}".replace("[] | select", "'yes' if [] | select('string') else 'no'"), "yes"],
    ["{{ {'b': [1.5, true, none, 'é\\\"<'], 'a': {}} | tojson }}", '{"b": [1.5, true, null, "é\\"<"], "a": {}}'],
    ["{{ {'b': [1], 'a': []} | tojson(indent=2, sort_keys=true) }}", '{\n  "a": [],\n  "b": [\n    1\n  ]\n}'],
    ["{{ ['a', 'b'] | join(', ') }} {{ [{'k': 1}, {'k': none}] | map(attribute='k') | list }}", "a, b [1, None]"],
    ["{{ message.items }}{{ message['items'] }}".replaceAll("message", "{'items': 7}"), "<function items>7"],
    ["{% set x = [1, 2] %}{% for i in x %}{{ i }}{% continue %}{% else %}none{% endfor %}", "12none"],
    ["{{ ('<' | safe) + '<' }}{{ '<' | e ~ '<' }}", "<&lt;&lt;<"],
  ])("%s", (source, text) => expect(render(source)).toBe(text)); // prettier-ignore

  it.each([
    ["{{ x.y }}", /'x' is undefined/],
    ["{{ none + 'a' }}", /unsupported operand/],
    ["{{ [1].append(2) }}", /unsafe/],
    ["{{ x() }}", /'x' is undefined/],
    ["{{ 'a' | tojson | nothing }}", /No filter named 'nothing'/],
    ["{{ 1 is nothing }}", /No test named 'nothing'/],
    ["{% for m in none %}{% endfor %}", /not iterable/],
    ["{{ x | tojson }}", /not JSON serializable/],
    ["{{ [1, 'a'] | sort }}", /not supported between instances of 'str' and 'int'|'int' and 'str'/],
    ["{% set a, b = [1] %}", /not enough values to unpack/],
    ["{{ 1 // 0 }}", /by zero/],
    ["{% set x.y = 1 %}", /non-namespace/],
    ["{% macro f(a) %}{% endmacro %}{{ f(1, 2) }}", /not more than 1/],
  ])("%s is an error", (source, message) => expectError(() => render(source), "ERR_ARGUMENT", message)); // prettier-ignore

  it.each([
    ["{% include 'x' %}", /tag that chat templates have, got include/],
    ["{% break %}", /in a loop/],
    ["{% if true %}", /expected \{% endif %\}/],
    ["{{ 'a }}", /unexpected character/],
    ["{{ a b }}", /end of the tag/],
    ["{{ {'a': 1] }}", /unexpected \]/],
    ["{% raw %}", /endraw/],
    ["{{ '\\x1' }}", /escape/],
  ])("%s is no template", (source, message) => expectError(() => render(source), "ERR_FORMAT", message)); // prettier-ignore
});

test("variables keep their values", () => {
  const variables = {
    a: 3,
    b: 2.5,
    c: 10n ** 20n,
    d: new Map<unknown, unknown>([[1, "x"]]),
    e: undefined,
    f: [undefined],
    g: () => 1,
  };
  expect(render("{{ a }} {{ b }} {{ c }} {{ d }} {{ e is defined }} {{ f }} {{ g() + 1 }}", variables)).toBe(
    "3 2.5 100000000000000000000 {1: 'x'} False [None] 2",
  );
  expect(render("{{ documents }}{{ tools }}")).toBe("NoneNone");
});

testUnless(noJinja2)("strftime_now writes dates as Python does", () => {
  const codes = Array.from("aAbBcCdDeFgGhHIjklmMnpPrRStTuUVwWxXyY%fzZ");
  const flags = [
    "%-d",
    "%_d",
    "%-m/%-e",
    "%^a",
    "%^B",
    "%#p",
    "%05d",
    "%-I:%M",
    "%e.",
    "%Ey",
    "%_5Y",
    "%10A",
    "%Q",
    "100%",
  ];
  const dates = Array.from(
    { length: 60 },
    (_, i) => new Date(1995 + i, (i * 5) % 12, 1 + ((i * 7) % 28), (i * 11) % 24, i, 59 - i, i),
  );
  for (const date of [...dates, new Date(2024, 11, 30), new Date(2023, 0, 1), new Date(2020, 1, 29)]) {
    const list = [...codes.map((code) => `%${code}`), ...flags];
    vi.useFakeTimers({ now: date, toFake: ["Date"] });
    const own = list.map((format) => render("{{ strftime_now(f) }}", { f: format }));
    vi.useRealTimers();
    expect(own).toEqual(list.map((format) => strftime(date, format)));
  }
  const cases = [...codes.map((code) => `%${code}`), ...flags].map((f) => ({
    template: "{{ strftime_now(f) }}",
    variables: { f },
  }));
  for (const date of [dates[3]!, dates[17]!, dates[40]!, new Date(2024, 11, 30, 0, 5), new Date(2023, 0, 1, 12)])
    expect(cases.map(({ variables: { f } }) => ({ text: strftime(date, f) }))).toEqual(jinja2(cases, date));
});

describe("messages", () => {
  const show = (message: object): string =>
    new ChatTemplate("{% for m in messages %}{{ m }}{% endfor %}").render([
      { role: "assistant", content: null, ...message },
    ]);

  it("keep what is no text", () => {
    expect(show({})).toBe("{'role': 'assistant', 'content': None}");
    expect(show({ content: "" })).toBe("{'role': 'assistant', 'content': ''}");
    expect(show({ content: [{ type: "text", text: "a" }] })).toBe(
      "{'role': 'assistant', 'content': [{'type': 'text', 'text': 'a'}]}",
    );
    expect(new ChatTemplate("{{ messages[0].content | trim }}{{ messages[0].content ~ '!' }}").render([{ role: "user", content: null }])).toBe("NoneNone!"); // prettier-ignore
  });

  it("have calls whose arguments are Python's values", () => {
    const call = (given: string): string =>
      new ChatTemplate("{{ messages[0].tool_calls[0].function.arguments }}").render([
        { role: "assistant", content: null, toolCalls: [{ id: "1", name: "f", arguments: given }] },
      ]);
    expect(call('{"a": 3.0, "b": [1, 12345678901234567890, 1e2, -0.5], "c": null, "1.0": "2.0 \\" 3.0"}')).toBe(
      `{'a': 3.0, 'b': [1, 12345678901234567890, 100.0, -0.5], 'c': None, '1.0': '2.0 " 3.0'}`,
    );
    expect(call('{"b": {"2": 1.0, "1": []}, "10": {"x": 1}, "a": "\\"3\\": 4", "9" : 2}')).toBe(
      `{'b': {'2': 1.0, '1': []}, '10': {'x': 1}, 'a': '"3": 4', '9': 2}`,
    );
    expect(call(JSON.stringify({ b: "x".repeat(300_000), 1: Array.from({ length: 50_000 }, () => 1) })).length).toBe(
      450_016,
    );
    expect(call("not JSON")).toBe("not JSON");
    expect(call("null")).toBe("null");
    const joined = "{{ ', '.join([messages[0].tool_calls[0].function.arguments | string]) }}";
    expect(
      new ChatTemplate(joined).render([
        { role: "assistant", content: "", toolCalls: [{ id: "1", name: "f", arguments: '{"city": "Paris"}' }] },
      ]),
    ).toBe("{'city': 'Paris'}");
  });
});
