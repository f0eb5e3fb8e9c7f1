// The prompts and answers of a task's documents, with the examples that a few-shot prompt begins with. The text is put
// together as lm-evaluation-harness does it, so that prompts are the same.
import { isDeepStrictEqual } from "node:util";
import { describe, HeedError } from "../util/errors.js";
import type { TaskDocument } from "./documents.js";
import { PythonFloat } from "../tokenizer/jinja/convert.js";
import { PythonRandom } from "./python-random.js";
import { pythonText } from "./python-text.js";
import { PromptTemplate } from "./prompt-template.js";
import type { EvaluationTask } from "./evaluation-task.js";

/** Options of the prompts of a task. */
export interface PromptSettings {
  /** Number of examples in a prompt. */
  readonly numFewshot: number;
  /** Seed of the choice of examples. */
  readonly seed: number;
}

/** Answer of a document: the index of a choice, or a text. */
type Target = number | string;

/** Makes the prompts and the answers of a task's documents. */
export class Prompts {
  readonly #task: EvaluationTask;
  readonly #settings: PromptSettings;
  readonly #text: PromptTemplate | null;
  readonly #target: PromptTemplate | null;
  readonly #choices: PromptTemplate | null;
  readonly #description: PromptTemplate | null;
  /** Text of each example that a prompt has had. */
  readonly #examples = new Map<TaskDocument, string>();
  readonly #random: PythonRandom;
  /** Examples that have been drawn for each document, in the order of the documents. */
  readonly #drawn: (readonly TaskDocument[])[] = [];

  /** @throws ERR_FORMAT if a template is malformed. */
  constructor(task: EvaluationTask, settings: PromptSettings) {
    const { docToText, docToTarget, docToChoice, description } = task.fields;
    this.#task = task;
    this.#settings = settings;
    this.#random = new PythonRandom(settings.seed);
    const template = (source: unknown): PromptTemplate | null =>
      typeof source === "string" ? new PromptTemplate(source) : null;
    this.#text = template(docToText);
    this.#target = template(docToTarget);
    this.#choices = template(docToChoice);
    this.#description = description === "" ? null : template(description);
  }

  /** Returns the prompt of the document at a position: the description, the examples and the document's text. */
  promptOf(index: number): string {
    const document = this.#task.documents[index]!;
    const description = this.#description?.render(document) ?? "";
    const examples = this.#examplesOf(index).map((example) => this.#exampleText(example));
    return description + examples.join("") + this.#textOf(document);
  }

  /** Returns the choices of a document. */
  choicesOf(document: TaskDocument): string[] {
    const { docToChoice } = this.#task.fields;
    const value = typeof docToChoice === "string" ? this.#field(docToChoice, this.#choices!, document) : docToChoice;
    if (Array.isArray(value) && value.length > 0) return (value as unknown[]).map(pythonText);
    throw new HeedError("ERR_FORMAT", `expected doc_to_choice to give a list of choices, got ${describe(value)}`);
  }

  /** Returns the texts that are right answers for a document. */
  textsOf(document: TaskDocument): string[] {
    return this.#targetsOf(document).map((target) =>
      typeof target === "number" && this.#task.fields.docToChoice !== null
        ? this.#choice(document, target)
        : String(target),
    );
  }

  /** Returns the indices of the choices that are right for a document. */
  rightChoicesOf(document: TaskDocument): number[] {
    const choices = this.choicesOf(document);
    return this.#targetsOf(document).map((target) => {
      const index = typeof target === "number" ? target : choices.indexOf(target);
      if (Number.isInteger(index) && index >= 0 && index < choices.length) return index;
      throw new HeedError(
        "ERR_FORMAT",
        `expected doc_to_target to give one of the ${choices.length} choices or its index, got ${describe(target)}`,
      );
    });
  }

  /** Returns the examples in the prompt of the document at a position. A document is no example for itself. */
  #examplesOf(index: number): readonly TaskDocument[] {
    const { numFewshot } = this.#settings;
    if (numFewshot === 0) return [];
    const { examples, documents, fields, name } = this.#task;
    const available = Math.max(0, (examples?.length ?? 0) - (examples === documents ? 1 : 0));
    if (!examples || available < numFewshot)
      throw new HeedError(
        "ERR_RANGE",
        `task ${name}: expected at least ${numFewshot} few-shot examples besides the document itself, got ${available}`,
      );
    if (fields.sampler === "first_n") return this.#filled([], examples, documents[index]!);
    // The documents draw one after the other from the same random numbers, as in lm-evaluation-harness.
    while (this.#drawn.length <= index) this.#drawn.push(this.#draw(examples, documents[this.#drawn.length]!));
    return this.#drawn[index]!;
  }

  #draw(examples: readonly TaskDocument[], document: TaskDocument): TaskDocument[] {
    const { numFewshot } = this.#settings;
    const count = Math.min(numFewshot + (this.#task.fields.drawsOneMore ? 1 : 0), examples.length);
    const drawn = this.#random.sample(examples, count).filter((example) => !this.#isItself(example, document));
    return this.#filled(drawn.slice(0, numFewshot), examples, document);
  }

  /** Returns chosen examples, and as many of the first others as are missing. */
  #filled(chosen: TaskDocument[], examples: readonly TaskDocument[], document: TaskDocument): TaskDocument[] {
    for (const example of examples) {
      if (chosen.length === this.#settings.numFewshot) break;
      if (!chosen.includes(example) && !this.#isItself(example, document)) chosen.push(example);
    }
    return chosen;
  }

  #isItself(example: TaskDocument, document: TaskDocument): boolean {
    const { examples, documents, fields } = this.#task;
    if (fields.drawsOneMore) return isDeepStrictEqual(example, document);
    return examples === documents && example === document;
  }

  /** Returns an example as it stands in a prompt: its text, its answer and the delimiter after them. */
  #exampleText(example: TaskDocument): string {
    const known = this.#examples.get(example);
    if (known !== undefined) return known;
    const { targetDelimiter, fewshotDelimiter } = this.#task.fields;
    const [answer = ""] = this.textsOf(example);
    const text = this.#textOf(example) + (answer === "" ? "" : targetDelimiter + answer) + fewshotDelimiter;
    this.#examples.set(example, text);
    return text;
  }

  #textOf(document: TaskDocument): string {
    const { docToText } = this.#task.fields;
    return this.#text ? pythonText(this.#field(docToText as string, this.#text, document)) : String(docToText);
  }

  #choice(document: TaskDocument, index: number): string {
    const choices = this.choicesOf(document);
    const choice = choices[index];
    if (choice !== undefined) return choice;
    throw new HeedError(
      "ERR_FORMAT",
      `expected doc_to_target to give an index below ${choices.length}, the number of choices, got ${index}`,
    );
  }

  /** Returns the right answers of a document. Among choices, a number that a field or a template gives is an index. */
  #targetsOf(document: TaskDocument): Target[] {
    const { docToTarget, docToChoice } = this.#task.fields;
    const value = typeof docToTarget === "string" ? this.#field(docToTarget, this.#target!, document) : docToTarget;
    const isField = typeof docToTarget === "string" && Object.hasOwn(document, docToTarget);
    const targets = (Array.isArray(value) ? value : [value]).map((one: unknown): Target => {
      if (docToChoice !== null && (typeof one === "number" || typeof one === "boolean")) return Number(one);
      // Python takes a float for the index that equals it.
      if (docToChoice !== null && isField && one instanceof PythonFloat) return Number(one);
      const text = pythonText(one);
      // A template makes a text of a number, and the text in a field is one of the choices.
      return docToChoice !== null && !isField && /^\d+$/.test(text) ? Number(text) : text;
    });
    if (targets.length > 0) return targets;
    throw new HeedError("ERR_FORMAT", "expected doc_to_target to give an answer, got an empty list");
  }

  /** Returns the value of a field that is named by a source, or else that of the source as a template. */
  #field(source: string, template: PromptTemplate, document: TaskDocument): unknown {
    return Object.hasOwn(document, source) ? document[source] : template.value(document);
  }
}
