import type { TaskDocument } from "./documents.js";
import type { OutputType, TaskFields } from "./task-fields.js";

/** Task on which models are evaluated: documents, and the templates that make prompts and answers from them. */
export interface EvaluationTask {
  /** Name of the task. */
  readonly name: string;
  /** Kind of output by which the task measures a model. */
  readonly outputType: OutputType;
  /** Documents on which models are evaluated. */
  readonly documents: readonly TaskDocument[];
  /** Documents from which the examples in a prompt are taken; null if the task has none. */
  readonly examples: readonly TaskDocument[] | null;
  /** @internal */
  readonly fields: TaskFields;
}
