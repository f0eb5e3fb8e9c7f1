/** Values in prompts, as Python writes them, and the types that the columns of files have. */
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { readDocuments } from "../../lib/evaluation/documents.js";
import { PromptTemplate } from "../../lib/evaluation/prompt-template.js";
import { Prompts } from "../../lib/evaluation/prompts.js";
import { parsePythonJson } from "../../lib/evaluation/python-json.js";
import { pythonText } from "../../lib/evaluation/python-text.js";
import { readTask } from "../../lib/evaluation/task.js";
import { floatText } from "../../lib/tokenizer/jinja/repr.js";
import { temporaryFolder } from "../support/folder.js";
import { pythonWith } from "../support/python.js";
import { testUnless } from "../support/skip.js";

const json =
  '{"a": 3.0, "b": 3, "c": [1.0, 2.5, -0.0], "d": {"e": 1e5, "f": "1.0"}, "g": 0.00001, "h": 1e16, "i": 123456789012345680.0, "j": true, "k": null, "l": 1e22, "m": 12.50, "n": 1e999, "o": -1.5e-7, "p": "é\\"1.0"}';
const whole =
  "{'a': 3.0, 'b': 3, 'c': [1.0, 2.5, -0.0], 'd': {'e': 100000.0, 'f': '1.0'}, 'g': 1e-05, 'h': 1e+16, 'i': 1.2345678901234568e+17, 'j': True, 'k': None, 'l': 1e+22, 'm': 12.5, 'n': inf, 'o': -1.5e-07, 'p': 'é\"1.0'}";

test("JSON keeps what is a float, and texts are Python's", () => {
  expect(pythonText(parsePythonJson(json))).toBe(whole);
  expect(pythonText(parsePythonJson('{"x": NaN, "y": -Infinity, "z": "NaN"}'))).toBe(
    "{'x': nan, 'y': -inf, 'z': 'NaN'}",
  );
  expect(() => parsePythonJson('{"x": 1.0,}')).toThrow(SyntaxError);
  expect(() => parsePythonJson("NaNa")).toThrow(SyntaxError);
  expect(JSON.stringify(parsePythonJson('{"a": [3.0, 1]}'))).toBe('{"a":[3,1]}');
});

test("templates write floats as Python does", () => {
  const document = parsePythonJson(json) as Record<string, unknown>;
  const render = (template: string) => new PromptTemplate(template).render(document);
  expect(render("{{a}} {{b}} {{c}} {{c[0]}} {{d.e}} {{doc.d}} {{g}} {{h}} {{m}} {{n}}")).toBe(
    "3.0 3 [1.0, 2.5, -0.0] 1.0 100000.0 {'e': 100000.0, 'f': '1.0'} 1e-05 1e+16 12.5 inf",
  );
  expect(render("{{a + b}} {{b + b}} {{b / b}} {{a * 2}} {% if a == 3 %}same{% endif %}")).toBe("6.0 6 1.0 6.0 same");
  expect(pythonText(new PromptTemplate("{{c}}").value(document))).toBe("[1.0, 2.5, -0.0]");
});

const { command: python3, missing: noPython } = pythonWith("json", "python3");

testUnless(noPython)("every float has the text of Python's repr()", () => {
  const bits = new DataView(new ArrayBuffer(8));
  const numbers = Array.from({ length: 3000 }, (_, i) => {
    if (i % 3 === 0) return (i - 1500) / 10 ** (i % 7);
    if (i % 3 === 1) return 10 ** ((i % 45) - 20) * (1 + (i % 4));
    bits.setUint32(0, Math.imul(i, 2_654_435_761) >>> 0);
    bits.setUint32(4, Math.imul(i, 40_503) >>> 0);
    const value = bits.getFloat64(0);
    return Number.isFinite(value) ? value : i;
  });
  const program = "import json, sys\njson.dump([repr(float(x)) for x in json.load(sys.stdin)], sys.stdout)";
  const { stdout } = spawnSync(python3, ["-c", program], { input: JSON.stringify(numbers), encoding: "utf8" });
  expect(numbers.map(floatText)).toEqual(JSON.parse(stdout));
});

const texts = (documents: readonly unknown[]): string[] => documents.map(pythonText);

test("a column of JSON has one type, in every kind of file", async () => {
  const folder = temporaryFolder();
  const lines = ['{"x": 1, "y": [1, 2], "z": {"w": 2}, "v": 1}', '{"x": 2.5, "y": [3.0], "z": {"w": null}, "v": 2}'];
  const expected = [
    "{'x': 1.0, 'y': [1.0, 2.0], 'z': {'w': 2}, 'v': 1}",
    "{'x': 2.5, 'y': [3.0], 'z': {'w': None}, 'v': 2}",
  ];
  const files = {
    "a.jsonl": `${lines.join("\n")}\n`,
    "a.json": `[${lines.join(",")}]`,
    "lines.json": lines.join("\n"),
    "object.json": `{\n  "version": "1.0",\n  "data": [${lines.join(",\n")}]\n}\n`,
    "object.json.gz": gzipSync(`{"data": [${lines.join(",")}]}`),
    "other.txt": lines.join("\n"),
    "a.jsonl.gz": gzipSync(lines.join("\n")),
  };
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(path.join(folder, name), content);
    expect(texts(await readDocuments(path.join(folder, name))), name).toEqual(expected);
  }
});

test("columns of CSV are numbers if all of their cells are", async () => {
  const file = path.join(temporaryFolder(), "a.csv");
  const rows = ["text,label,score,gap,flag,mixed,zip,empty", "a,0,1.5,1,True,1,007,", "b,1,2,,False,x,010,"];
  writeFileSync(file, `\ufeff${rows.join("\n")}\n`);
  expect(texts(await readDocuments(file))).toEqual([
    "{'text': 'a', 'label': 0, 'score': 1.5, 'gap': 1.0, 'flag': True, 'mixed': '1', 'zip': 7, 'empty': ''}",
    "{'text': 'b', 'label': 1, 'score': 2.0, 'gap': None, 'flag': False, 'mixed': 'x', 'zip': 10, 'empty': ''}",
  ]);
});

test("a label in CSV is the index of a choice", async () => {
  const folder = temporaryFolder();
  writeFileSync(path.join(folder, "t.csv"), "text,label\ngood,1\nbad,0\n");
  const fields = [
    ...["task: t", "dataset_path: csv", "dataset_kwargs: { data_files: { test: t.csv } }", "test_split: test"],
    ...["output_type: multiple_choice", 'doc_to_text: "{{text}} {{label}}"', "doc_to_target: label"],
    'doc_to_choice: ["no", "yes"]',
  ];
  writeFileSync(path.join(folder, "t.yaml"), fields.join("\n"));
  const task = await readTask(path.join(folder, "t.yaml"));
  const prompts = new Prompts(task, { numFewshot: 0, seed: 0 });
  expect(task.documents.map((document) => prompts.rightChoicesOf(document))).toEqual([[1], [0]]);
  expect(prompts.promptOf(0)).toBe("good 1");
});
