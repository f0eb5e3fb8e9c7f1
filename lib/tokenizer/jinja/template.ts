// Templates in Jinja's language, as Python's Jinja2 renders them. heed has an interpreter of its own because the values
// of a template must be Python's: int and float, None and undefined, texts of code points, and how each is written.
import { Bounds, checkSource } from "./bounds.js";
import { fromJavaScript, toJavaScript } from "./convert.js";
import { Interpreter, type RenderOptions } from "./interpreter.js";
import type { LexerOptions } from "./lexer.js";
import type { Statement } from "./nodes.js";
import { parseTemplate } from "./parser.js";
import type { Ranges } from "./ranges.js";
import { untrustedOf } from "./untrusted.js";
import { stringOf, type Value, Undefined } from "./values.js";

/** A text with those of its parts that come from an `Untrusted` value. */
export interface RenderedText {
  readonly text: string;
  readonly untrusted: Ranges;
}

/** Values of a rendering. */
export interface RenderInput {
  /** The template's variables. */
  readonly variables: Readonly<Record<string, unknown>>;
  /** The part of them that the caller gives for this rendering: more of it allows more work and more text. */
  readonly input: unknown;
  /** Work, in units of some 0.1 µs, after which the rendering throws `LongWork`. @default Infinity */
  readonly longWork?: number;
}

/** A parsed template. */
export class JinjaTemplate {
  readonly #body: readonly Statement[];
  readonly #strict: boolean;

  /**
   * Parses a template. `strict` says that the use of what does not exist is an error.
   *
   * @throws Error if `source` is not a template, and ERR_FORMAT if it is too long.
   */
  constructor(source: string, options: LexerOptions & { strict: boolean }) {
    checkSource(source);
    this.#body = parseTemplate(source, options);
    this.#strict = options.strict;
  }

  /**
   * Returns the template's text.
   *
   * @throws Error if the template fails, and ERR_RANGE if it does more work than the input allows.
   */
  render(given: RenderInput, marks: RenderOptions["marks"] = null): string {
    return this.renderText(given, marks).text;
  }

  /** Returns the template's text, and the parts of it that are untrusted. */
  renderText(given: RenderInput, marks: RenderOptions["marks"] = null): RenderedText {
    const value = this.#interpreter(given, marks).render(this.#body);
    return { text: stringOf(value)!, untrusted: untrustedOf(value) };
  }

  /** Returns the value of a template that is one expression, and the text of any other. */
  value(given: RenderInput): unknown {
    const [only, ...others] = this.#body;
    if (only?.type !== "print" || others.length > 0) return this.render(given);
    const value = this.#interpreter(given, null).value(only.value);
    return value instanceof Undefined ? value.fail() : toJavaScript(value);
  }

  #interpreter({ variables, input, longWork }: RenderInput, marks: RenderOptions["marks"]): Interpreter {
    const values = new Map<string, Value>();
    for (const [name, value] of Object.entries(variables))
      if (value !== undefined) values.set(name, fromJavaScript(value));
    return new Interpreter(new Bounds(input, longWork), values, { strict: this.#strict, marks });
  }
}
