/** Random programs in the part of Jinja's language that chat templates use. */
import fc from "fast-check";

const one = (...values: readonly string[]): fc.Arbitrary<string> => fc.constantFrom(...values);
/** Returns the words of a text. */
const words = (text: string): fc.Arbitrary<string> => fc.constantFrom(...text.split(" "));

const quoted = one(
  ...[
    "''",
    "'a'",
    "'Hello World'",
    "'  x y '",
    '"it\'s"',
    "'\\n'",
    "'a,b,,c'",
    "'é漢😀z'",
    "'ABC'",
    "'12'",
    "'-3'",
    "'1.5'",
  ],
  ...[
    "'<b>&'",
    "'a\\nb\\n\\nc'",
    "'%s-%d'",
    "'{} {0}'",
    "'ﬁß'",
    "'\\u2028\\x85 '",
    "'x' 'y'",
    "'1e3'",
    "'0x1f'",
    "'\\t\\\\'",
  ],
);
const number = words("0 1 2 3 -1 -2 7 10 100 0.5 1.0 2.5 -0.25 1e-5 1e16 123456789012345678901 3.14159 0.1 1_000");
const atom = fc.oneof(
  { weight: 5, arbitrary: quoted },
  { weight: 4, arbitrary: number },
  { weight: 3, arbitrary: words("true false none missing") },
  {
    weight: 8,
    arbitrary: words("text words numbers mixed nested empty_list empty_dict person people n f flag nothing zero"),
  },
);

const plainFilters = words(
  "abs capitalize count dictsort escape first float int items last length list lower max min reverse round safe sort string sum title tojson trim unique upper e d default urlencode striptags",
);
const filterCalls = one(
  ...["join(', ')", "join", "join('-', attribute='name')", "default('x')", "default('x', true)", "d(1, boolean=True)"],
  ...["replace('a', 'b')", "replace('', '-')", "replace('l', 'L', 1)", "indent", "indent(2)", "indent(2, true)"],
  ...["indent(width=3, first=True, blank=True)", "indent('> ')", "tojson(indent=2)", "tojson(sort_keys=true)"],
  ...[
    "tojson(ensure_ascii=true)",
    "tojson(separators=(',', ':'))",
    "tojson(indent=1, sort_keys=True)",
    "tojson(indent=0)",
  ],
  ...["map('upper')", "map('string') | list", "map(attribute='name') | list", "map(attribute='age', default=0) | list"],
  ...["map('int', 5) | list", "map('tojson') | join(' ')", "map(attribute='tags.0') | list", "select | list"],
  ...["select('string') | list", "select('defined') | list", "reject('none') | list", "select('gt', 1) | list"],
  ...[
    "selectattr('name') | list",
    "selectattr('age', 'gt', 30) | list",
    "selectattr('name', 'equalto', 'Ann') | first",
  ],
  ...["rejectattr('age', 'defined') | list", "selectattr('missing', 'undefined') | list | length", "batch(2) | list"],
  ...[
    "batch(3, 'x') | list",
    "slice(2) | list",
    "slice(3, none) | list",
    "sort(reverse=true)",
    "sort(attribute='name')",
  ],
  ...[
    "sort(attribute='age,name')",
    "sort(case_sensitive=true)",
    "unique | list",
    "unique(true) | list",
    "reverse | list",
  ],
  ...[
    "items | list",
    "dictsort(by='value')",
    "dictsort(reverse=true)",
    "round(1)",
    "round(2, 'floor')",
    "round(0, 'ceil')",
  ],
  ...["int(7)", "int(base=16)", "float(2.5)", "truncate(5)", "truncate(6, true, '')", "center(12)", "format(1, 'x')"],
  ...[
    "groupby('age') | list",
    "sum(attribute='age')",
    "sum(start=5)",
    "max(attribute='age')",
    "trim('x a')",
    "attr('name')",
  ],
  ...[
    "filesizeformat",
    "first | default('none')",
    "xmlattr",
    "forceescape",
    "groupby('name') | map(attribute='grouper') | list",
  ],
);
const tests = one(
  ...wordsOf(
    "defined undefined none string mapping iterable sequence number boolean integer float odd even true false lower upper callable escaped",
  ),
  ...[
    "in [1, 'a', none]",
    "in 'abc'",
    "equalto 1",
    "eq 'a'",
    "ne none",
    "gt 1",
    "lt(2)",
    "ge 1.0",
    "sameas none",
    "divisibleby 2",
  ],
  ...["divisibleby(3)", "filter", "test", "sameas(true)"],
);
const methods = one(
  ...[
    "upper()",
    "lower()",
    "strip()",
    "lstrip('H ')",
    "rstrip('d')",
    "strip('\\n')",
    "split()",
    "split(',')",
    "split(' ', 1)",
  ],
  ...[
    "rsplit(',', 1)",
    "split('l', maxsplit=1)",
    "splitlines()",
    "splitlines(true)",
    "startswith('H')",
    "endswith(('d', 'c'))",
  ],
  ...[
    "startswith('a', 1)",
    "title()",
    "capitalize()",
    "swapcase()",
    "replace('a', 'b')",
    "replace('', '.', 3)",
    "replace('l', '', 1)",
  ],
  ...[
    "find('o')",
    "rfind('o')",
    "find('o', 5)",
    "count('l')",
    "index('a')",
    "removeprefix('He')",
    "removesuffix('ld')",
    "zfill(6)",
  ],
  ...[
    "center(9, '*')",
    "ljust(6)",
    "rjust(6, '0')",
    "partition(' ')",
    "rpartition('l')",
    "join(['x', 'y'])",
    "join('abc')",
  ],
  ...[
    "isdigit()",
    "isalpha()",
    "isupper()",
    "islower()",
    "isspace()",
    "isalnum()",
    "istitle()",
    "isnumeric()",
    "isdecimal()",
  ],
  ...["format(1, 2)", "format(a=1)", "expandtabs(4)", "casefold()", "isidentifier()"],
  ...[
    "items()",
    "keys()",
    "values()",
    "get('name')",
    "get('zz', 5)",
    "get(1)",
    "copy()",
    "items() | list",
    "keys() | list",
  ],
  ...[
    "append(1)",
    "pop()",
    "update({'a': 1})",
    "index(1)",
    "count(1)",
    "sort()",
    "clear()",
    "values() | list",
    "encode('x')",
  ],
);
const attribute = one(
  ...[
    ".name",
    ".age",
    ".tags",
    ".items",
    ".x",
    "['name']",
    "['items']",
    "[0]",
    "[-1]",
    "[5]",
    "[1.0]",
    "['0']",
    "[none]",
    "[true]",
  ],
  ...["[missing]", ".0"],
);
const slices = one(
  "[1:]",
  "[:-1]",
  "[::-1]",
  "[::2]",
  "[-2:]",
  "[5:1:-2]",
  "[:none]",
  "[1:3]",
  "[10:]",
  "[-1:-9:-1]",
  "[n:]",
  "[::0]",
);
const operators = words("+ - * / // % ** ~ == != < <= > >= in and or");

/** An expression. */
export const expression = fc.letrec<{ e: string }>((tie) => ({
  e: fc.oneof(
    { maxDepth: 2, withCrossShrink: true },
    { weight: 4, arbitrary: atom },
    {
      weight: 5,
      arbitrary: fc.tuple(tie("e"), fc.oneof(plainFilters, filterCalls)).map(([e, name]) => `(${e}) | ${name}`),
    },
    { weight: 3, arbitrary: fc.tuple(atom, filterCalls).map(([e, name]) => `${e} | ${name}`) },
    { weight: 3, arbitrary: fc.tuple(tie("e"), methods).map(([e, call]) => `(${e}).${call}`) },
    { weight: 2, arbitrary: fc.tuple(atom, methods).map(([e, call]) => `${/^[\d-]/.test(e) ? `(${e})` : e}.${call}`) },
    { weight: 3, arbitrary: fc.tuple(tie("e"), attribute).map(([e, name]) => `(${e})${name}`) },
    {
      weight: 3,
      arbitrary: fc
        .tuple(words("text words numbers mixed nested person range(9) ('é漢😀z'~n) missing"), slices)
        .map((p) => p.join("")),
    },
    { weight: 3, arbitrary: fc.tuple(tie("e"), one("is", "is not"), tests).map((p) => `(${p[0]}) ${p[1]} ${p[2]}`) },
    { weight: 4, arbitrary: fc.tuple(tie("e"), operators, tie("e")).map((p) => `(${p[0]}) ${p[1]} (${p[2]})`) },
    { weight: 1, arbitrary: fc.tuple(atom, operators, atom, operators, atom).map((p) => p.join(" ")) },
    { weight: 1, arbitrary: fc.tuple(tie("e"), tie("e")).map(([a, b]) => `${a} not in ${b}`) },
    { weight: 1, arbitrary: fc.tuple(one("not ", "-", "+"), tie("e")).map(([sign, e]) => `${sign}(${e})`) },
    { weight: 1, arbitrary: fc.tuple(tie("e"), tie("e"), tie("e")).map(([a, b, c]) => `(${a} if ${b} else ${c})`) },
    { weight: 1, arbitrary: fc.tuple(tie("e"), tie("e")).map(([a, b]) => `(${a} if ${b})`) },
    { weight: 1, arbitrary: fc.array(tie("e"), { maxLength: 3 }).map((list) => `[${list.join(", ")}]`) },
    { weight: 1, arbitrary: fc.array(tie("e"), { minLength: 1, maxLength: 3 }).map((list) => `(${list.join(", ")},)`) },
    { weight: 1, arbitrary: fc.array(fc.tuple(atom, tie("e")), { maxLength: 2 }).map((l) => `{${l.map((p) => p.join(": ")).join(", ")}}`) }, // prettier-ignore
    { weight: 1, arbitrary: fc.tuple(one("range(3)", "range(5, 1, -2)", "range(0)", "dict(a=1, b='x')", "dict(person, z=none)", "namespace(a=1).a", "dict([('k', 1)])", "range(2, 8)[1:3]"), fc.oneof(attribute, fc.constant(""), one(" | list", " | tojson", " | length"))).map((p) => p.join("")) }, // prettier-ignore
  ),
})).e;

function wordsOf(text: string): string[] {
  return text.split(" ");
}

const open = one("{% ", "{%- ", "{%+ ", "  {% ", "\n  {% ");
const close = one(" %}", " -%}", " %}\n", " -%}\n  ", " +%}\n");
const data = one("a", " ", "\n", "  \n", "x\n  ", "é", "{", "}", "\r\n", "\t", "# c", "%}");

/** A block of a template: statements, and the text between them. */
const block = fc.letrec<{ b: string }>((tie) => {
  const tag = (text: fc.Arbitrary<string>): fc.Arbitrary<string> => fc.tuple(open, text, close).map((p) => p.join(""));
  const fixed = (text: string): fc.Arbitrary<string> => tag(fc.constant(text));
  const joined = (...parts: fc.Arbitrary<string>[]): fc.Arbitrary<string> => fc.tuple(...parts).map((p) => p.join(""));
  const body = fc.array(tie("b"), { maxLength: 3 }).map((parts) => parts.join(""));
  const shown = joined(one("{{ ", "{{- ", "{{"), expression, one(" }}", " -}}", "}}"));
  const name = words("x y z text n");
  const list = fc.oneof(words("numbers words people mixed person nested empty_list missing text range(4) person.items() words[::-1]"), expression); // prettier-ignore
  const loopValues = one(
    ..."loop.index loop.index0 loop.first loop.last loop.length loop.revindex loop.revindex0 loop.previtem loop.nextitem loop.depth loop.cycle('a','b') loop.changed(x) x ns.v".split(" ").map((e) => `{{ ${e} }}`), // prettier-ignore
  );
  const macroUse = one(
    ...[
      "{{ m(1) }}",
      "{{ m(1, 2) }}",
      "{{ m(b=3, a=4) }}",
      "{{ m() }}",
      "{{ m(1, 2, 3) }}",
      "{{ m(1, c=5) }}",
      "{{ m(*[1, 2]) }}",
    ],
    ...[
      "{% call m(1) %}c{{ x }}{% endcall %}",
      "{% call(u) m('q') %}{{ u }}{% endcall %}",
      "{{ m(**{'a': 1}) }}",
      "{{ m.name }}",
    ],
  );
  const macroBody = one(
    ...[
      "{{ a }}{{ b }}",
      "{{ a }}{{ varargs }}",
      "{{ a }}{{ kwargs }}",
      "{{ a }}{{ caller() }}",
      "{{ a }}{{ caller('w') }}",
      "{{ x }}{{ b }}",
    ],
    ...[
      "{% if a is defined %}{{ a }}{% endif %}{% set x = 9 %}",
      "{{ b is undefined }}{% if caller %}{{ caller() }}{% endif %}",
    ],
  );
  return {
    b: fc.oneof(
      { maxDepth: 4, withCrossShrink: true },
      { weight: 3, arbitrary: data },
      { weight: 6, arbitrary: shown },
      {
        weight: 2,
        arbitrary: joined(tag(expression.map((e) => `if ${e}`)), body, fixed("else"), body, fixed("endif")),
      },
      { weight: 2, arbitrary: joined(tag(expression.map((e) => `if ${e}`)), body, tag(expression.map((e) => `elif ${e}`)), body, fixed("endif")) }, // prettier-ignore
      { weight: 3, arbitrary: joined(tag(fc.tuple(words("x x x y x,y"), list, fc.oneof({ weight: 3, arbitrary: fc.constant("") }, expression.map((e) => ` if ${e}`))).map((p) => `for ${p[0]} in ${p[1]}${p[2]}`)), loopValues, body, one("", "", "{% break %}", "{% continue %}", "{% if loop.index > 1 %}{% break %}{% endif %}"), loopValues, one("", "{% else %}none"), fixed("endfor")) }, // prettier-ignore
      { weight: 2, arbitrary: tag(fc.tuple(name, expression).map((p) => `set ${p.join(" = ")}`)) },
      { weight: 1, arbitrary: tag(expression.map((e) => `set ns.v = ${e}`)) },
      { weight: 1, arbitrary: joined(tag(name.map((n) => `set ${n}`)), body, fixed("endset")) },
      { weight: 1, arbitrary: joined(tag(one("set x | upper", "set y | trim | length", "filter upper", "filter indent(2)", "filter trim | length").map((t) => t)), body).chain((t) => fixed(t.includes("filter") ? "endfilter" : "endset").map((end) => t + end)) }, // prettier-ignore
      { weight: 1, arbitrary: joined(fixed("with x = 1, y = x"), body, fixed("endwith")) },
      { weight: 2, arbitrary: joined(tag(one("macro m(a, b=2)", "macro m(a)", "macro m(a, b=a)", "macro m()")), macroBody, fixed("endmacro"), macroUse, macroUse) }, // prettier-ignore
      { weight: 1, arbitrary: joined(fixed("generation"), body, fixed("endgeneration")) },
      { weight: 1, arbitrary: joined(fixed("raw"), data, one("{{ x }}", "{% if %}", ""), fixed("endraw")) },
      { weight: 1, arbitrary: joined(one("{# c #}", "{#- c -#}", "  {# x #}\n", "{#c\n#}\n"), tie("b")) },
      { weight: 1, arbitrary: fc.constant("{% for x in [[1, [2]], [3]] recursive %}{{ loop.depth }}{% if x is iterable %}{{ loop(x) }}{% else %}{{ x }}{% endif %}{% endfor %}") }, // prettier-ignore
    ),
  };
}).b;

/** A template. */
export const program = fc
  .array(block, { maxLength: 4 })
  .map((blocks) => `{% set ns = namespace(v=0) %}${blocks.join("")}`);

/** The variables of the programs. */
export const variables = {
  text: "Hello World",
  words: ["banana", "Apple", "cherry", "apple", ""],
  numbers: [3, 1, 2, 10, -5, 2.5],
  mixed: [1, "a", null, true, 0.5, [1, 2], { k: "v" }],
  nested: { a: [1, { b: null }], items: "own", é: 1.5e-7, 'q"': "it's" },
  empty_list: [],
  empty_dict: {},
  person: { name: "Ann", age: 31, tags: ["x", "y"], keys: 5 },
  people: [
    { name: "Bob", age: 25, tags: ["t"] },
    { name: "Ann", age: 31, tags: [] },
    { name: "cy", age: 25 },
  ],
  ...{ n: 42, f: 2.5, flag: true, nothing: null, zero: 0, bos_token: "<s>" },
};
