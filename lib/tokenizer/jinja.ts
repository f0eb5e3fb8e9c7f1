// What is used of Hugging Face's Jinja interpreter, whose own types do not resolve under Node's rules for modules.
import { createRequire } from "node:module";

/** A node of a parsed template. */
export interface Node {
  type: string;
  [part: string]: unknown;
}

/** What a node evaluates to: texts, numbers and functions as JavaScript's, lists as arrays and dictionaries as Maps. */
export interface Value {
  type: string;
  value: unknown;
}

/** The value of a function. */
export type Callable = (args: Value[], scope: Environment) => Value;

/** A scope of variables. */
export interface Environment {
  readonly parent?: Environment;
  readonly variables: ReadonlyMap<string, Value>;
  set(name: string, value: unknown): void;
}

export interface Interpreter {
  evaluate(node: Node | undefined, scope: Environment): Value;
  run(program: Node): Value;
}

export interface Jinja {
  Template: new (source: string) => { parsed: Node };
  Environment: new () => Environment;
  Interpreter: new (environment: Environment) => Interpreter;
}

const require = createRequire(import.meta.url);

/** Loads the library when it is needed, since most programs render no template. */
export function loadJinja(): Jinja {
  return require("@huggingface/jinja") as Jinja;
}
