/** Task files: what they may contain, how they are refused, and the prompts that follow from them. */
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { PromptTemplate } from "../../lib/evaluation/prompt-template.js";
import { Prompts } from "../../lib/evaluation/prompts.js";
import { defineTask, readTask } from "../../lib/evaluation/task.js";
import { temporaryFolder } from "../support/folder.js";
import { pythonWith } from "../support/python.js";

const templates: readonly [template: string, document: Record<string, unknown>][] = [
  ["Question: {{question}}\nAnswer:", { question: "Why?\n" }],
  ["{{a}} {{b}} {{c}} {{d}} {{e}}", { a: true, b: null, c: 3, d: 0.5, e: ["x", "it's", 'a "b"', 2, false] }],
  ["{% for c in choices %}\n{{ loop.index }}. {{ c }}\n{% endfor %}\n", { choices: ["one", "two"] }],
  ["  {% if x > 2 %}  large {% else %} small{% endif %}\n\n", { x: 3 }],
  [
    "{{choices.text}} {{choices.label.index(answer)}}",
    { choices: { text: ["p", "q"], label: ["A", "B"] }, answer: "B" },
  ],
  ["{{text.split(' ')[:-1]|join(' ')}}|{{' ' + text.split(' ')[-1]}}", { text: "the white whale" }],
  ["{{ doc.title | upper }}{{ title.strip('-') }}", { title: "--x--" }],
  ["{{x}}{%- if true %} y{%- endif -%} \n z", { x: "\\" }],
];

const python = `
import json, sys
from jinja2 import Environment, StrictUndefined
environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
json.dump([environment.from_string(t).render(doc=d, **d) for t, d in json.load(sys.stdin)], sys.stdout)
`;
import { testUnless } from "../support/skip.js";

const { command, missing } = pythonWith("jinja2", "python3-jinja2");

testUnless(missing)("templates give the texts of Python's Jinja2", () => {
  const { stdout, stderr } = spawnSync(command, ["-c", python], { input: JSON.stringify(templates), encoding: "utf8" });
  expect(stderr).toBe("");
  const expected = JSON.parse(stdout) as string[];
  expect(templates.map(([template, document]) => new PromptTemplate(template).render(document))).toEqual(expected);
});

test("templates refuse what does not exist", () => {
  const render = (template: string) => () => new PromptTemplate(template).render({ a: 1 });
  expect(render("{{b}}")).toThrow(/template "{{b}}": 'b' is undefined/);
  expect(render("{{doc.b}}")).toThrow(/'dict object' has no attribute 'b'/);
  expect(render("{{['x'].index('y')}}")).toThrow(/the value of index\(\) is not in the list/);
  expect(render("{{")).toThrow(/template "{{"/);
  expect(new PromptTemplate("{{a}}").value({ a: [1, "x"] })).toEqual([1, "x"]);
  expect(new PromptTemplate("{{a}} ").value({ a: 1 })).toBe("1 ");
});

const documents = {
  test: [
    { question: "1+1=", answer: "2", choices: ["1", "2"] },
    { question: "2+2=", answer: "4", choices: ["4", "5"] },
  ],
  train: [
    { question: "0+1=", answer: "1", choices: ["0", "1"] },
    { question: "1+3=", answer: "4", choices: ["4", "3"] },
    { question: "2+1=", answer: "3", choices: ["2", "3"] },
  ],
};
const fields = {
  task: "sums",
  test_split: "test",
  training_split: "train",
  output_type: "multiple_choice",
  doc_to_text: "Q: {{question}}",
  doc_to_target: "answer",
  doc_to_choice: "{{choices}}",
};

describe("prompts", () => {
  test("with the first examples", async () => {
    const task = await defineTask(
      { ...fields, description: "Add.\n\n", fewshot_config: { sampler: "first_n" }, num_fewshot: 2 },
      { documents },
    );
    const prompts = new Prompts(task, { numFewshot: 2, seed: 1 });
    expect(prompts.promptOf(1)).toBe("Add.\n\nQ: 0+1= 1\n\nQ: 1+3= 4\n\nQ: 2+2=");
    expect(prompts.choicesOf(documents.test[0]!)).toEqual(["1", "2"]);
    expect(prompts.rightChoicesOf(documents.test[0]!)).toEqual([1]);
    // The number that a template makes is an index: the answer "2" would be the third choice.
    const indexed = await defineTask({ ...fields, doc_to_target: "{{answer}}" }, { documents });
    const other = new Prompts(indexed, { numFewshot: 0, seed: 1 });
    expect(() => other.rightChoicesOf(documents.test[0]!)).toThrow(/one of the 2 choices or its index, got 2/);
  });

  test("of a kind with other delimiters, a fixed target and choices in the task", async () => {
    const task = await defineTask(
      {
        ...{ task: "t", validation_split: "test", output_type: "multiple_choice" },
        ...{ doc_to_text: "question", doc_to_target: 1, doc_to_choice: ["no", "yes"] },
        ...{ target_delimiter: "", fewshot_delimiter: "\n", fewshot_config: { samples: [{ question: "x" }] } },
      },
      { documents },
    );
    const prompts = new Prompts(task, { numFewshot: 1, seed: 1 });
    expect(prompts.promptOf(0)).toBe("xyes\n1+1=");
    expect(prompts.rightChoicesOf(documents.test[0]!)).toEqual([1]);
    expect(prompts.textsOf(documents.test[0]!)).toEqual(["yes"]);
  });

  test("examples are those that lm-evaluation-harness draws", async () => {
    const range = (n: number) => Array.from({ length: n }, (_, i) => ({ question: String(i), answer: "" }));
    const drawn = async (more: object, documents: Record<string, readonly object[]>, count: number) => {
      const own = { task: "t", doc_to_text: "question", doc_to_target: "answer", num_fewshot: 3, ...more };
      const task = await defineTask(own, { documents: documents as Record<string, Record<string, unknown>[]> });
      const prompts = new Prompts(task, { numFewshot: 3, seed: 1234 });
      // The order in which prompts are asked for does not matter.
      const order = Array.from({ length: count }, (_, i) => count - 1 - i);
      return order
        .map((i) => prompts.promptOf(i).split("\n\n").slice(0, -1).map(Number)) // prettier-ignore
        .reverse();
    };
    const two = { test_split: "test", training_split: "train" };
    // random.Random(1234), and then sample(range(30), 3) for each document.
    const first = [[24, 14, 3], [0, 2, 29], [25, 18, 1], [21, 22, 2]]; // prettier-ignore
    expect(await drawn(two, { test: range(4), train: range(30) }, 4)).toEqual(first);
    expect(await drawn({ ...two, fewshot_split: "train" }, { test: range(4), train: range(30) }, 4)).toEqual(first);
    const samples = { fewshot_config: { samples: range(30) } };
    expect(await drawn({ test_split: "test", ...samples }, { test: range(4) }, 4)).toEqual(first);
    // sample(range(30), 4), of which the document itself is left out.
    const one = { test_split: "test", fewshot_split: "test" };
    const others = [[24, 14, 3], [2, 29, 25], [1, 21, 22], [24, 11, 7], [0, 25, 11], [19, 15, 14], [2, 5, 22]]; // prettier-ignore
    expect((await drawn(one, { test: range(30) }, 30)).slice(0, 7)).toEqual(others);
    const few = [[3, 4, 5], [4, 0, 5], [1, 0, 3], [0, 2, 4], [3, 1, 0], [0, 4, 2]]; // prettier-ignore
    expect(await drawn(one, { test: range(6) }, 6)).toEqual(few);
    // Two missing names are the same one, too.
    const validation = { validation_split: "test", training_split: "train" };
    expect((await drawn(validation, { test: range(30), train: range(30) }, 7)).slice(0, 7)).toEqual(others);
    // A document that would be its own example gets another one, and those of the other documents stay as they are.
    const own = await drawn({ test_split: "test" }, { test: range(4) }, 4);
    for (const [i, examples] of own.entries()) expect(examples.toSorted()).toEqual([0, 1, 2, 3].filter((j) => j !== i));
  });

  test("examples are drawn for each document, the same with the same seed, and never the document itself", async () => {
    const own = { ...fields, fewshot_split: "test", output_type: "generate_until", doc_to_choice: null };
    const many = Array.from({ length: 30 }, (_, i) => ({ question: `<${i}>`, answer: `[${i}]` }));
    const task = await defineTask(own, { documents: { test: many, train: [] } });
    const of = (seed: number): string[] => {
      const prompts = new Prompts(task, { numFewshot: 3, seed });
      return many.map((_, i) => prompts.promptOf(i));
    };
    const first = of(1);
    expect(first).toEqual(of(1));
    expect(first).not.toEqual(of(2));
    for (const [i, prompt] of first.entries()) {
      expect(prompt.split("\n\n")).toHaveLength(4);
      expect(prompt.split(`<${i}>`)).toHaveLength(2);
      expect(prompt).not.toContain(`[${i}]`);
    }
    expect(new Set(first.map((prompt) => prompt.split("\n\n").slice(0, 3).join())).size).toBeGreaterThan(20);
    const greedy = new Prompts(task, { numFewshot: 30, seed: 1 });
    expect(() => greedy.promptOf(0)).toThrow(/at least 30 few-shot examples besides the document itself, got 29/);
  });
});

describe("task files", () => {
  test("are read with their data", async () => {
    const folder = temporaryFolder();
    writeFileSync(path.join(folder, "a.jsonl"), '{"q": "x", "a": 0}\n\n{"q": "y", "a": 1}\n');
    writeFileSync(path.join(folder, "b.json"), '[{"q": "z", "a": 1}]');
    const yaml = `
task: letters
tag: [small]
dataset_path: json
dataset_name: null
dataset_kwargs:
  data_files:
    test: [a.jsonl, b.json]
    train: b.json
test_split: test
training_split: train
output_type: multiple_choice
doc_to_text: "{{q}}"
doc_to_target: a
doc_to_choice: ["first", "second"]
num_fewshot: 1
metric_list:
  - metric: acc_norm
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1.0
`;
    const file = path.join(folder, "letters.yaml");
    writeFileSync(file, yaml);
    const task = await readTask(file);
    expect(task).toMatchObject({ name: "letters", outputType: "multiple_choice" });
    expect(task.documents.map(({ q }) => q)).toEqual(["x", "y", "z"]);
    expect(task.examples).toHaveLength(1);
    expect(task.fields.metrics.map(({ metric }) => metric)).toEqual(["acc_norm"]);

    const refused = async (change: (text: string) => string): Promise<string> => {
      writeFileSync(file, change(yaml));
      return readTask(file).then(
        () => "nothing",
        (error: unknown) => {
          expect(error).toMatchObject({ code: "ERR_FORMAT" });
          return (error as Error).message.replaceAll(`${folder}/`, "");
        },
      );
    };
    expect(await refused((text) => `${text}process_docs: !function utils.process\n`)).toBe(
      "letters.yaml: expected no process_docs, which heed does not support, got !function utils.process",
    );
    expect(await refused((text) => text.replace('"{{q}}"', "!function utils.text"))).toBe(
      "letters.yaml: expected doc_to_text without Python code, got !function utils.text",
    );
    expect(await refused((text) => text.replace("a.jsonl", "b.json, c.jsonl"))).toContain("c.jsonl");
    expect(await refused((text) => text.replace("{{q}}", "{{q"))).toMatch(/^letters\.yaml: template "{{q": /);
    expect(await refused(() => "a: [")).toMatch(/^letters\.yaml: expected YAML: /);
    writeFileSync(path.join(folder, "a.jsonl"), '{"q": "x"}\n[1]\n');
    expect(await refused((text) => text)).toBe("letters.yaml: a.jsonl:2: expected an object, got an array of 1");
    writeFileSync(path.join(folder, "a.jsonl"), '{"q": "x"}\n{"q"\n');
    expect(await refused((text) => text)).toMatch(/^letters\.yaml: a\.jsonl:2: expected JSON: /);
  });

  test.each([
    [{ include: "other.yaml" }, "expected no include, which heed does not support"],
    [{ output_type: "greedy" }, "expected output_type to be multiple_choice, loglikelihood, loglikelihood_rolling or"],
    [{ dataset_path: "glue" }, "expected dataset_path to be json, csv, parquet or the name of a data set of the hub"],
    [{ dataset_path: "a/b", dataset_name: "../c" }, "expected dataset_name to be a name"],
    [{ dataset_path: "json", dataset_kwargs: { revision: "main" } }, "expected dataset_kwargs.revision to be left out"],
    [{ dataset_kwargs: { trust_remote_code: true } }, "expected no dataset_kwargs.trust_remote_code"],
    [{ doc_to_choice: undefined }, "expected doc_to_choice to be a list or a template, got undefined"],
    [{ doc_to_text: undefined }, "expected doc_to_text to be a template"],
    [{ task: undefined }, "expected task to be a string, got undefined"],
    [{ test_split: undefined }, "task sums: expected test_split or validation_split, got neither"],
    [{ test_split: "dev" }, "expected dataset_kwargs.data_files to have the split dev, got no files"],
    [{ num_fewshot: -1 }, "expected num_fewshot to be an integer of at least 0, got -1"],
    [{ repeats: 4 }, "expected repeats to be 1, got 4"],
    [{ metric_list: [{ metric: "mcc" }] }, "expected metric_list[0].metric to be acc or acc_norm (the metrics of"],
    [{ metric_list: [{ metric: "acc", aggregation: "median" }] }, "expected metric_list[0].aggregation to be mean"],
    [{ metric_list: [{ metric: "acc", weight: 2 }] }, "expected no metric_list[0].weight"],
    [{ metric_list: [{ metric: "acc", ignore_case: true }] }, "expected metric_list[0].metric to be exact_match for"],
    [{ metric_list: [] }, "expected metric_list to be at least one metric"],
    [{ filter_list: [] }, "expected filter_list to be none, except for generate_until"],
    [{ generation_kwargs: { until: [1] } }, "expected generation_kwargs.until to be a text or a list of texts"],
    [{ generation_kwargs: { num_beams: 4 } }, "expected no generation_kwargs.num_beams"],
    [{ fewshot_config: { sampler: "balanced" } }, "expected fewshot_config.sampler to be default or first_n"],
  ])("refuse %j", async (change, message) => {
    await expect(defineTask({ ...fields, ...change }, { documents })).rejects.toMatchObject({
      code: "ERR_FORMAT",
      message: expect.stringContaining(message),
    });
  });

  test("refuse filters that they do not know", async () => {
    const generating = { ...fields, output_type: "generate_until", doc_to_choice: null };
    const filter = (step: object) =>
      defineTask({ ...generating, filter_list: [{ name: "f", filter: [step] }] }, { documents });
    await expect(filter({ function: "majority_vote" })).rejects.toMatchObject({
      message: expect.stringContaining("expected filter_list[0].filter[0].function to be regex, remove_whitespace"),
    });
    await expect(filter({ function: "regex", regex_pattern: "(" })).rejects.toMatchObject({
      message: expect.stringContaining("regex_pattern: expected a regular expression of Python"),
    });
  });
});
