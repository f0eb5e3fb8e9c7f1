// Parameters that a chat template reads: if the model thinks before its answer, and others that its maker has named; and
// how much it thinks.
import { ApiError } from "./api-error.js";
import { idle, mostTokens, object, optional, type Schema } from "./json-schema.js";

/** Efforts of OpenAI's models; "none" asks for no reasoning. */
export type ReasoningEffort = "none" | "minimal" | "low" | "medium" | "high" | "xhigh";

/** Parameters of a request that become variables of the template. */
export interface TemplateParameters {
  chat_template_kwargs?: Readonly<Record<string, string | number | boolean | null>> | null;
  reasoning_effort?: ReasoningEffort | null;
  thinking?: { type: "enabled" | "disabled"; budget_tokens?: number | null } | null;
  thinking_budget?: number | null;
  thinking_token_budget?: number | null;
  add_generation_prompt?: boolean | null;
  continue_final_message?: boolean | null;
}

const effort: Schema = { type: "string", enum: ["none", "minimal", "low", "medium", "high", "xhigh"] };

/** Schema of an effort, which many templates know as a switch alone. */
export const effortSchema: Schema = optional({
  ...{ ...effort, enum: [...(effort.enum as string[]), null] },
  description: 'The template\'s variables reasoning_effort and enable_thinking, which is false for "none".',
});

const budget = (description: string): Schema =>
  optional({ type: "integer", minimum: -1, maximum: mostTokens, description });

/** Schemas of the names of a bound on the tokens of reasoning. */
export const budgetSchemas = {
  thinking_budget: budget(
    "Most tokens of reasoning, after which the answer itself follows; 0 turns thinking off, and -1 sets no bound.",
  ),
  thinking_token_budget: budget("vLLM's name of thinking_budget."),
};

/** Schemas of `TemplateParameters`. */
export const templateSchemas: Readonly<Record<keyof TemplateParameters, Schema>> = {
  chat_template_kwargs: {
    type: ["object", "null"],
    maxProperties: 64,
    propertyNames: { pattern: "^[A-Za-z_][A-Za-z0-9_]*$", maxLength: 64 },
    // A template may write them into the text, where nothing of a client may be a control token.
    additionalProperties: {
      type: ["string", "number", "boolean", "null"],
      ...{ minimum: -(2 ** 53), maximum: 2 ** 53 },
      pattern: "^[\\w .,:/-]*$",
      maxLength: 256,
    },
    description: "vLLM's: variables of the chat template, such as enable_thinking.",
    "x-cost": "the template's own, within the bounds of its work",
  },
  reasoning_effort: effortSchema,
  ...budgetSchemas,
  add_generation_prompt: optional({
    ...{ type: "boolean", description: "vLLM's: let the beginning of an answer follow the messages; true by default." },
  }),
  continue_final_message: optional({
    ...{ type: "boolean", description: "vLLM's: continue the last message instead of answering it." },
  }),
  thinking: optional(
    object(
      {
        type: {
          type: "string",
          enum: ["enabled", "disabled"],
          description: "The template's variable enable_thinking.",
        },
        budget_tokens: budget("Another name of thinking_budget."),
      },
      ["type"],
    ),
  ),
};

/** Schema of the parameter `reasoning` of responses. */
export const reasoningSchema: Schema = optional(
  object({
    effort: effortSchema,
    summary: idle({
      type: "string",
      enum: ["auto", "concise", "detailed", null],
      description: "There are no summaries.",
    }),
    generate_summary: idle({ type: "string", enum: ["auto", "concise", "detailed", null] }),
  }),
);

/** Returns how the text of a conversation ends. */
export function conversationEnd(given: TemplateParameters): { addGenerationPrompt: boolean; continues: boolean } {
  const { add_generation_prompt: begins, continue_final_message: continues } = given;
  if (begins && continues)
    throw new ApiError(400, "continue_final_message: expected add_generation_prompt not to be true as well.", {
      ...{ param: "continue_final_message", code: "invalid_value" },
    });
  return { addGenerationPrompt: begins ?? true, continues: continues === true };
}

/** Returns the most tokens of reasoning; undefined for no bound. */
export function thinkingBudget(given: TemplateParameters): number | undefined {
  const { thinking_budget: own, thinking_token_budget: other, thinking } = given;
  const most = own ?? other ?? thinking?.budget_tokens ?? -1;
  return most < 0 ? undefined : most;
}

/** Returns the variables of the template for the parameters. Those that are named by the request win. */
export function templateVariables(given: TemplateParameters): Record<string, unknown> {
  const { chat_template_kwargs: own, reasoning_effort: effort, thinking } = given;
  const most = thinkingBudget(given);
  return {
    ...(most !== undefined && { enable_thinking: most > 0 }),
    ...(effort && { reasoning_effort: effort, enable_thinking: effort !== "none" }),
    ...(thinking && { enable_thinking: thinking.type === "enabled" && most !== 0 }),
    ...own,
  };
}
