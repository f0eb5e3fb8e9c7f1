// A conversation as the text that a model was trained on: the Jinja template that comes with the model, run by Hugging
// Face's interpreter.
import { describe, HeedError } from "../errors.js";
import { loadJinja, type Node } from "./jinja.js";
import { checkTemplateSource, outlineTemplate, RenderBounds, type TemplateOutline } from "./jinja-bounds.js";
import { setGlobals } from "./jinja-globals.js";
import { stripFunctions, withStripFunctions } from "./jinja-strip.js";

export interface ChatMessage {
  role: string;
  content: string;
  /** What else a template looks at: tool_calls, name, … */
  [key: string]: unknown;
}

export interface ChatOptions {
  /** Whether the text ends where the model's answer begins; true unless given. */
  addGenerationPrompt?: boolean;
  /** Tools that the model may call, as the template wants them. */
  tools?: readonly unknown[] | null;
  /** Further variables of the template. */
  variables?: Readonly<Record<string, unknown>>;
}

/** A template that is bounded in the time and memory it may take, since it may be a stranger's. */
export class ChatTemplate {
  readonly source: string;
  readonly #program: Node;
  readonly #outline: TemplateOutline;
  readonly #variables: Readonly<Record<string, unknown>>;

  /** `variables` are seen by every text: bos_token, eos_token, … Throws ERR_FORMAT for what is not a template. */
  constructor(source: string, variables: Readonly<Record<string, unknown>> = {}) {
    this.source = source;
    this.#variables = variables;
    try {
      checkTemplateSource(source);
      this.#program = new (loadJinja().Template)(source).parsed;
      withStripFunctions(this.#program);
      this.#outline = outlineTemplate(this.#program);
    } catch (cause) {
      throw new HeedError("ERR_FORMAT", `chat template: expected a Jinja template: ${reason(cause)}`, { cause });
    }
  }

  /**
   * Throws ERR_ARGUMENT where the messages are none, or the template refuses them, and ERR_RANGE where the template
   * exceeds the work or text that it is allowed for this many messages.
   */
  render(messages: readonly ChatMessage[], options: ChatOptions = {}): string {
    checkMessages(messages);
    const { addGenerationPrompt = true, tools = null, variables = {} } = options;
    try {
      const { Environment, Interpreter } = loadJinja();
      const seen = { ...this.#variables, ...variables, messages, tools, add_generation_prompt: addGenerationPrompt };
      const environment = new Environment();
      const interpreter = new Interpreter(environment);
      // The variables that came with the template do not raise its bounds.
      const bounds = new RenderBounds(interpreter, this.#outline, { variables, messages, tools });
      setGlobals(environment, bounds);
      for (const [name, value] of Object.entries({ ...stripFunctions, ...seen })) environment.set(name, value);
      return interpreter.run(this.#program).value as string;
    } catch (cause) {
      if (cause instanceof HeedError || cause instanceof RangeError)
        throw new HeedError("ERR_RANGE", `chat template ${describe(this.source)}: ${reason(cause)}`, { cause });
      throw new HeedError("ERR_ARGUMENT", `chat template: expected messages it takes: ${reason(cause)}`, { cause });
    }
  }
}

/** Why a template failed. RangeErrors are JavaScript's own: the stack is full, or a text too long. */
function reason(cause: unknown): string {
  if (cause instanceof RangeError) return `expected parts that are nested less deeply (${cause.message})`;
  return (cause as Error).message;
}

function checkMessages(messages: unknown): void {
  if (!Array.isArray(messages) || messages.length === 0)
    throw new HeedError(
      "ERR_ARGUMENT",
      `chat template: expected messages in an array of at least one, got ${describe(messages)}`,
    );
  for (const [i, message] of messages.entries()) {
    const role = (message as { role?: unknown } | null)?.role;
    if (typeof role !== "string")
      throw new HeedError("ERR_ARGUMENT", `chat template: expected messages[${i}].role, got ${describe(role)}`);
  }
}
