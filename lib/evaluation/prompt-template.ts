// The templates of a task, which make prompts and answers from the fields of a document. They are in Jinja's language and
// run under the limits of chat templates. White space stays as it is written, values are written as Python writes them,
// and a value that does not exist is an error.
import { HeedError } from "../util/errors.js";
import { JinjaTemplate } from "../tokenizer/jinja/template.js";

/** The settings of lm-evaluation-harness. */
const settings = { trimBlocks: false, lstripBlocks: false, keepTrailingNewline: true, strict: true };

/** A template of a task. */
export class PromptTemplate {
  readonly #source: string;
  readonly #template: JinjaTemplate;

  /**
   * Parses a template.
   *
   * @throws ERR_FORMAT if it is not a Jinja template.
   */
  constructor(source: string) {
    this.#source = source;
    this.#template = this.#checked(() => new JinjaTemplate(source, settings));
  }

  /**
   * Returns the text that the template makes of a document.
   *
   * @throws ERR_FORMAT if the template uses a value that the document does not have, or exceeds its limits.
   */
  render(document: Readonly<Record<string, unknown>>): string {
    return this.#checked(() => this.#template.render(inputOf(document)));
  }

  /**
   * Returns the value of a template that is a single expression, such as a list of answers, and the text that it makes
   * otherwise.
   *
   * @throws ERR_FORMAT if the template uses a value that the document does not have, or exceeds its limits.
   */
  value(document: Readonly<Record<string, unknown>>): unknown {
    return this.#checked(() => this.#template.value(inputOf(document)));
  }

  #checked<T>(body: () => T): T {
    try {
      return body();
    } catch (cause) {
      const { message } = cause as Error;
      throw new HeedError("ERR_FORMAT", `template ${JSON.stringify(this.#source)}: ${message}`, { cause });
    }
  }
}

function inputOf(document: Readonly<Record<string, unknown>>) {
  return { variables: { doc: document, ...document }, input: document };
}
