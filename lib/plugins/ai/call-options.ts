// Turns the settings of a call of the AI SDK into options of `LanguageModel.chat`.
import type {
  LanguageModelV3CallOptions,
  LanguageModelV3FunctionTool,
  LanguageModelV3ToolChoice,
  SharedV3Warning,
} from "@ai-sdk/provider";
import type { JsonSchema } from "../../util/json-schema.js";
import type { ChatGenerationOptions, LanguageModel } from "../../load/language-model.js";
import { definedOptions } from "../../load/loaded.js";
import type { OutputFormat } from "../../structured/output-format.js";
import type { Tool, ToolChoice } from "../../tokenizer/tools.js";
import { checkNames } from "../option-names.js";

const ownNames = [
  ...(["minP", "typicalP", "repetitionPenalty", "minTokens", "logitBias", "stopTokens", "overflow"] as const),
  ...(["format", "parallelToolCalls", "variables", "priority", "deadline", "speculation"] as const),
  ...(["adapter", "cacheSalt", "rawControlTokens"] as const),
] as const satisfies readonly (keyof ChatGenerationOptions)[];

/**
 * Options of `LanguageModel.chat` that the AI SDK has no setting for. They are passed in `providerOptions.heed`.
 *
 * @example
 * const own: HeedLanguageModelOptions = { minP: 0.05, format: { type: "choice", choices: ["yes", "no"] } };
 */
export type HeedLanguageModelOptions = Pick<ChatGenerationOptions, (typeof ownNames)[number]>;

/**
 * Returns the options of a call, and warnings about settings that have no effect.
 *
 * @throws ERR_ARGUMENT if `providerOptions.heed` has an unknown option.
 */
export function chatOptionsOf(
  call: LanguageModelV3CallOptions,
  { model }: LanguageModel,
): { options: Partial<ChatGenerationOptions>; warnings: SharedV3Warning[] } {
  const own = call.providerOptions?.heed ?? {};
  checkNames("heed", "providerOptions.heed", own, ownNames);
  const tools = call.tools?.filter((tool) => tool.type === "function") ?? [];
  const options = definedOptions<ChatGenerationOptions>({
    // By default, an answer may fill the context.
    maxTokens: call.maxOutputTokens ?? model.config.contextLength,
    temperature: call.temperature,
    topP: call.topP,
    topK: call.topK,
    presencePenalty: call.presencePenalty,
    frequencyPenalty: call.frequencyPenalty,
    stop: call.stopSequences,
    seed: call.seed,
    format: formatOf(call.responseFormat),
    tools: tools.length > 0 ? tools.map(toolOf) : undefined,
    toolChoice: tools.length > 0 ? toolChoiceOf(call.toolChoice) : undefined,
    ...(own as HeedLanguageModelOptions),
  });
  return { options, warnings: warningsOf(call, tools) };
}

function formatOf(format: LanguageModelV3CallOptions["responseFormat"]): OutputFormat | undefined {
  if (format?.type !== "json") return undefined;
  return format.schema ? { type: "json-schema", schema: format.schema as JsonSchema } : { type: "json" };
}

function toolOf({ name, description, inputSchema, strict }: LanguageModelV3FunctionTool): Tool {
  return { name, description, parameters: inputSchema as JsonSchema, strict };
}

function toolChoiceOf(choice: LanguageModelV3ToolChoice | undefined): ToolChoice | undefined {
  return choice?.type === "tool" ? { name: choice.toolName } : choice?.type;
}

function warningsOf(
  // `ai` 7 has the setting `reasoning`.
  { tools = [], reasoning = "provider-default" }: LanguageModelV3CallOptions & { reasoning?: string },
  functions: readonly LanguageModelV3FunctionTool[],
): SharedV3Warning[] {
  const provided = tools.filter((tool) => tool.type === "provider");
  const exemplified = functions.filter(({ inputExamples = [] }) => inputExamples.length > 0);
  return [
    ...(reasoning === "provider-default"
      ? []
      : [unsupported("reasoning", "The chat template may have a variable for it: providerOptions.heed.variables.")]),
    ...provided.map(({ id }) => unsupported(`the provider's tool ${id}`, "The program has to run tools itself.")),
    ...exemplified.map(({ name }) =>
      unsupported(
        `the examples of the tool ${name}`,
        "Put them into its description, or use addToolInputExamplesMiddleware.",
      ),
    ),
  ];
}

function unsupported(feature: string, details: string): SharedV3Warning {
  return { type: "unsupported", feature, details };
}
