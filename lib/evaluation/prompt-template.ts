// The templates of a task, which make prompts and answers from the fields of a document. They are in Jinja's language, and
// Hugging Face's interpreter runs them under the limits of chat templates. White space stays as it is written, values are
// written as Python writes them, and a value that does not exist is an error.
import { HeedError } from "../errors.js";
import { type Environment, loadJinja, type Node, type Value } from "../tokenizer/jinja.js";
import { checkTemplateSource, outlineTemplate, RenderBounds, type TemplateOutline } from "../tokenizer/jinja-bounds.js";
import { setGlobals } from "../tokenizer/jinja-globals.js";
import { stripFunctions, withStripFunctions } from "../tokenizer/jinja-strip.js";
import { pythonText } from "./python-text.js";

/** Nodes whose values are not written, or have been written by the nodes inside of them. */
const silent = new Set([
  "If",
  "For",
  "Set",
  "Macro",
  "CallStatement",
  "FilterStatement",
  "Break",
  "Continue",
  "Comment",
]);

/** A template of a task. */
export class PromptTemplate {
  readonly #source: string;
  readonly #program: Node;
  readonly #outline: TemplateOutline;

  /**
   * Parses a template.
   *
   * @throws ERR_FORMAT if it is not a Jinja template.
   */
  constructor(source: string) {
    this.#source = source;
    try {
      checkTemplateSource(source);
      const jinja = loadJinja();
      // The interpreter removes one line end at the end of a template.
      this.#program = jinja.parse(jinja.tokenize(source.endsWith("\n") ? `${source}\n` : source));
      withStripFunctions(this.#program);
      withListIndex(this.#program);
      this.#outline = outlineTemplate(this.#program);
    } catch (cause) {
      throw this.#error(cause);
    }
  }

  /**
   * Returns the text that the template makes of a document.
   *
   * @throws ERR_FORMAT if the template uses a value that the document does not have, or exceeds its limits.
   */
  render(document: Readonly<Record<string, unknown>>): string {
    return this.#run(document, ({ run }) => run().value as string);
  }

  /**
   * Returns the value of a template that is a single expression, such as a list of answers, and the text that it makes
   * otherwise.
   *
   * @throws ERR_FORMAT if the template uses a value that the document does not have, or exceeds its limits.
   */
  value(document: Readonly<Record<string, unknown>>): unknown {
    const [only, ...others] = this.#program.body as Node[];
    if (!only || others.length > 0 || silent.has(only.type)) return this.render(document);
    return this.#run(document, ({ evaluate }) => plainValue(this.#existing(evaluate(only))));
  }

  #run<T>(document: Readonly<Record<string, unknown>>, body: (use: Rendering) => T): T {
    try {
      const { Environment, Interpreter } = loadJinja();
      const environment = new Environment();
      const interpreter = new Interpreter(environment);
      const bounds = new RenderBounds(interpreter, this.#outline, document);
      setGlobals(environment, bounds);
      const given = { ...stripFunctions, "list.index": indexIn, doc: document, ...document };
      for (const [name, value] of Object.entries(given)) environment.set(name, value);
      const bounded = interpreter.evaluate.bind(interpreter);
      const toText = textValues(environment);
      interpreter.evaluate = (node, scope) => {
        const value = bounded(node, scope);
        if (!node || !this.#outline.written.has(node) || silent.has(node.type)) return value;
        return toText(this.#existing(value));
      };
      return body({
        run: () => interpreter.run(this.#program),
        evaluate: (node) => bounded(node, environment),
      });
    } catch (cause) {
      throw this.#error(cause);
    }
  }

  /**
   * Returns a value that exists.
   *
   * @throws ERR_FORMAT if the template refers to one that does not.
   */
  #existing(value: Value): Value {
    if (value.type !== "UndefinedValue") return value;
    throw new HeedError("ERR_FORMAT", "it uses a field that the document does not have");
  }

  #error(cause: unknown): HeedError {
    const { message } = cause as Error;
    return new HeedError("ERR_FORMAT", `template ${JSON.stringify(this.#source)}: ${message}`, { cause });
  }
}

interface Rendering {
  readonly run: () => Value;
  readonly evaluate: (node: Node) => Value;
}

/** Returns a function that replaces a value by the text that Python writes for it. */
function textValues(environment: Environment): (value: Value) => Value {
  environment.set("str.text", "");
  const Text = environment.variables.get("str.text")!.constructor as new (text: string) => Value;
  const kept = new Set(["StringValue", "IntegerValue", "FloatValue"]);
  return (value) => (kept.has(value.type) ? value : new Text(pythonText(plainValue(value))));
}

/** Returns a value of the interpreter as a plain one. */
function plainValue({ value }: Value): unknown {
  if (Array.isArray(value)) return (value as Value[]).map(plainValue);
  if (!(value instanceof Map)) return value;
  return Object.fromEntries([...(value as Map<string, Value>)].map(([name, item]) => [name, plainValue(item)]));
}

/** Returns the first position of an item in a list, or of a text in a text, as Python's index() does. */
function indexIn(list: unknown, item: unknown): number {
  const at =
    typeof list === "string"
      ? list.indexOf(String(item))
      : ((list as Value[] | undefined)?.findIndex(({ value }) => value === item) ?? -1);
  if (at < 0) throw new Error(`expected ${JSON.stringify(item)} to be in the list of index()`);
  return at;
}

/** Replaces calls of a list's method index(), which the interpreter lacks, by calls of `indexIn`. */
function withListIndex(tree: unknown): void {
  if (typeof tree !== "object" || tree === null) return;
  for (const part of Object.values(tree)) withListIndex(part);
  const node = tree as Node;
  const callee = node.callee as Node | undefined;
  if (node.type !== "CallExpression" || callee?.type !== "MemberExpression" || callee.computed === true) return;
  if ((callee.property as Node).value !== "index") return;
  node.callee = { type: "Identifier", value: "list.index" };
  node.args = [callee.object, ...(node.args as Node[])];
}
