// Unknown models, for which the AI SDK has an error of its own.
import { NoSuchModelError } from "@ai-sdk/provider";
import { NoSuchModelError as Missing } from "../../util/no-such-model-error.js";
import type { LazyModel, PluginKind } from "../lazy-model.js";
import type { ModelKinds } from "../../load/load.js";

type ModelType = NoSuchModelError["modelType"];

const types: Readonly<Record<PluginKind, ModelType>> = {
  causal: "languageModel",
  encoder: "embeddingModel",
  classifier: "rerankingModel",
};

/** Returns the error of a model that does not exist, or is not of this type. */
export function noSuchModel(
  modelId: string,
  kind: PluginKind | "image",
  message: string,
  cause?: unknown,
): NoSuchModelError {
  const modelType = kind === "image" ? "imageModel" : types[kind];
  // The class takes no cause, but its errors have one.
  return Object.assign(new NoSuchModelError({ modelId, modelType, message }), { cause });
}

/**
 * Resolves to a model, which is loaded if this is its first use.
 *
 * @throws NoSuchModelError of the AI SDK if there is no such model. Other errors are those of `load`.
 */
export async function loaded<K extends PluginKind>(model: LazyModel<K>, signal?: AbortSignal): Promise<ModelKinds[K]> {
  try {
    return await model.get(signal);
  } catch (cause) {
    if (!(cause instanceof Missing)) throw cause;
    throw noSuchModel(model.id, model.kind, cause.message, cause);
  }
}
