// Divides the memory for keys and values among the models of a server.
import { checkInteger } from "../util/check.js";
import { HeedError } from "../util/errors.js";
import type { EngineOptions } from "../engine/engine-options.js";
import { bytesOfPage, usualShare } from "../engine/kv-memory.js";
import { LanguageModel } from "../load/language-model.js";

/**
 * Options of the engines of a server; see `EngineOptions`. `kvMemory` and `kvShare` are those of all models together:
 * each model that generates gets a part, so that all have memory for about as many tokens.
 */
export type ServedEngineOptions = Omit<EngineOptions, "tokenizer" | "defaults">;

/**
 * Returns a function that returns the options of a model's engine. Models on the same device share its memory by the size
 * of their tokens' keys and values, so that each has room for about as many tokens. They need not be of the same size:
 * a model whose sequences cannot fill its part leaves the rest unused.
 *
 * @throws ERR_RANGE if `kvMemory` has no room for a page of each model.
 */
export function sharedMemory(
  models: readonly unknown[],
  options: ServedEngineOptions,
): (model: LanguageModel) => ServedEngineOptions {
  const { kvMemory, kvShare = usualShare, pageSize = 64, kvType = null } = options;
  const all = models.filter((model) => model instanceof LanguageModel);
  // Engines check the options of one model themselves.
  if (all.length < 2) return () => options;
  if (kvMemory !== undefined) checkInteger("server", "kvMemory", kvMemory, 1);
  const pageOf = ({ model }: LanguageModel): number => bytesOfPage(model, { pageSize, kvType });
  const sum = (of: readonly LanguageModel[]): number => of.reduce((total, one) => total + pageOf(one), 0);
  if (kvMemory !== undefined && kvMemory < sum(all))
    throw new HeedError(
      "ERR_RANGE",
      `server: expected kvMemory of at least ${sum(all)} bytes, which a page of ${pageSize} tokens of each of ${all.length} models needs, got ${kvMemory}`,
    );
  return (model) => {
    if (kvMemory !== undefined) return { ...options, kvMemory: Math.floor((kvMemory * pageOf(model)) / sum(all)) };
    const neighbours = all.filter(({ model: { device } }) => device === model.model.device);
    return { ...options, kvShare: (kvShare * pageOf(model)) / sum(neighbours) };
  };
}
