// Types of the parts of Hugging Face's Jinja interpreter that heed uses. The package's own types do not resolve under
// Node's rules for modules.
import { createRequire } from "node:module";

/** A node of a parsed template. */
export interface Node {
  type: string;
  [part: string]: unknown;
}

/** The value of a node: a JavaScript text, number or function, an array for a list, or a Map for a dictionary. */
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
  tokenize(source: string): unknown[];
  parse(tokens: unknown[]): Node;
}

const require = createRequire(import.meta.url);

/** Loads the library. It is loaded only when it is needed, since most programs render no template. */
export function loadJinja(): Jinja {
  return require("@huggingface/jinja") as Jinja;
}
