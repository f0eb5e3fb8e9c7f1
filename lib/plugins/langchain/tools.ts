// Tools and choices of tools in LangChain's forms.
import type { BindToolsInput, ToolChoice as LangChainToolChoice } from "@langchain/core/language_models/chat_models";
import { convertToOpenAITool } from "@langchain/core/utils/function_calling";
import { HeedError } from "../../util/errors.js";
import type { JsonSchema } from "../../util/json-schema.js";
import type { Tool, ToolChoice } from "../../tokenizer/tools.js";

/**
 * Returns a tool, which may be one of LangChain or in OpenAI's form. `strict` applies if the tool does not say it itself.
 *
 * @throws ERR_ARGUMENT if it is neither.
 */
export function toolOf(tool: BindToolsInput, strict?: boolean): Tool {
  const { function: definition } = convertToOpenAITool(tool) as {
    function?: { name: string; description?: string; parameters?: JsonSchema; strict?: boolean };
  };
  if (typeof definition !== "object")
    throw new HeedError(
      "ERR_ARGUMENT",
      'ChatHeed: expected a tool to be one of LangChain or to have the type "function", got another object',
    );
  const { name, description, parameters, strict: own = strict } = definition;
  return { name, description, parameters, strict: own };
}

/** Returns the choice of tools. LangChain calls "any" what OpenAI calls "required". */
export function toolChoiceOf(choice: LangChainToolChoice | undefined): ToolChoice | undefined {
  switch (choice) {
    case undefined:
    case "auto":
    case "none":
      return choice;
    case "any":
    case "required":
      return "required";
    default:
      return {
        name: typeof choice === "string" ? choice : ((choice.function as { name: string } | undefined)?.name ?? ""),
      };
  }
}
