// The fields of LangChain's classes and calls that are not settings of heed. A field that neither knows is a mistake: a
// setting with a wrong name would have no effect.
import type { BaseChatModelCallOptions, BaseChatModelParams } from "@langchain/core/language_models/chat_models";
import { HeedError } from "../../util/errors.js";

/** Fields that the constructors of LangChain's classes have in common. */
const sharedNames = ["maxConcurrency", "maxRetries", "onFailedAttempt"] as const;

/** Fields of the constructor of `HeedEmbeddings` that are LangChain's or say which model it is. */
export const embeddingsNames: readonly string[] = ["model", "load", ...sharedNames];

const chatNames = [
  ...(["callbackManager", "callbacks", "tags", "metadata", "verbose", "cache"] as const),
  ...(["disableStreaming", "outputVersion"] as const),
  ...sharedNames,
] as const satisfies readonly (keyof BaseChatModelParams)[];

/** Fields of the constructor of `ChatHeed` that are LangChain's or say which model it is. */
export const parameterNames: readonly string[] = ["model", "load", ...chatNames];

/** Fields of a call of `ChatHeed` that are LangChain's. */
export const callNames: readonly string[] = [
  ...(["stop", "tool_choice", "signal", "timeout", "maxRetries", "maxConcurrency", "outputVersion"] as const),
  ...(["ls_structured_output_format", "callbacks", "tags", "metadata", "runName", "runId"] as const),
  ...(["configurable", "recursionLimit"] as const satisfies readonly (keyof BaseChatModelCallOptions)[]),
  // LangChain adds the second one to each call.
  ...["tools", "promptIndex", "strict"],
  // A node of LangGraph passes its configuration on.
  ...["store", "context", "writer", "interrupt", "control", "executionInfo", "serverInfo", "heartbeat", "runType"],
  ...["streamMode", "durability", "encoding", "subgraphs", "debug", "inputKeys", "outputKeys"],
  ...["interruptBefore", "interruptAfter"],
];

/**
 * Checks that all fields are among those with these names. Their values are checked where they are used.
 *
 * @throws ERR_ARGUMENT if there are others; the message names them.
 */
export function checkFields(op: string, fields: unknown, names: readonly string[]): void {
  const unknown = Object.entries(Object(fields) as object)
    .filter(([name, value]) => value !== undefined && !names.includes(name) && !name.startsWith("lc_"))
    .map(([name]) => name);
  if (unknown.length === 0) return;
  const list = unknown.map((name) => JSON.stringify(name)).join(", ");
  throw new HeedError("ERR_ARGUMENT", `${op}: expected settings that it has (${names.join(", ")}), got ${list}`);
}
