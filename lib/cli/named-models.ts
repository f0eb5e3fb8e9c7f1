import path from "node:path";
import { setThreads } from "../core/device.js";
import { LanguageModel } from "../load/language-model.js";
import { load } from "../load/load.js";
import { loadAdapter } from "../pretrained/peft.js";
import type { ServableModel } from "../server/served-models.js";
import { UsageError } from "./failure.js";
import { type InferenceFlags, typeOptions } from "./inference-options.js";

/** The flags of commands that serve models by name. */
export interface ServedFlags extends InferenceFlags {
  model: string[];
  name?: string[];
  adapter?: string[];
}

/** Returns the sources of the models, by the names that requests give. */
export function servedNames({ model, name = [] }: ServedFlags): Map<string, string> {
  if (name.length > 0 && name.length !== model.length)
    throw new UsageError(`--name: expected one for each of ${model.length} models, got ${name.length}`);
  const all = model.map((source, i) => name[i] ?? nameOf(source));
  const names = new Map(model.map((source, i) => [all[i]!, source]));
  if (names.size < model.length) throw new UsageError(`--name: expected different names, got ${all.join(", ")}`);
  return names;
}

/** Returns the last part of a source, without the extension of a model's file. */
function nameOf(source: string): string {
  return path.basename(source.replace(/^hf:/, "")).replace(/\.(gguf|bin)$/, "");
}

/** An adapter of a model, as the flag `--adapter` names it. */
interface ServedAdapter {
  /** Name of its model; null for the first one that generates. */
  model: string | null;
  name: string;
  folder: string;
}

/** Returns the adapters of models with these names. */
export function servedAdapters({ adapter = [] }: ServedFlags, models: ReadonlySet<string>): ServedAdapter[] {
  const names = new Set(models);
  return adapter.map((given) => {
    const [, model = null, name, folder] = /^(?:(.+):)?([\w-]+)=(.+)$/s.exec(given) ?? [];
    if (!name || !folder)
      throw new UsageError(`--adapter: expected name=folder or model:name=folder, got ${JSON.stringify(given)}`);
    if (model !== null && !models.has(model))
      throw new UsageError(`--adapter: expected one of the models ${[...models].join(", ")}, got ${model}`);
    if (names.has(name)) throw new UsageError(`--adapter: expected a name that is not taken, got ${name}`);
    names.add(name);
    return { model, name, folder };
  });
}

/** Loads the models and their adapters. The caller disposes them. */
export async function loadServed(
  names: ReadonlyMap<string, string>,
  flags: ServedFlags,
): Promise<Record<string, ServableModel>> {
  const { threads, device } = flags;
  const adapters = servedAdapters(flags, new Set(names.keys()));
  if (threads !== undefined) setThreads(threads);
  const models: Record<string, ServableModel> = {};
  for (const [name, source] of names) {
    const model = await load(source, { device, ...typeOptions(flags) });
    if (model.kind === "encoder-decoder")
      throw new UsageError(`--model: expected a model that generates, embeds or ranks, got a translator: ${source}`);
    models[name] = model;
  }
  for (const { model: owner, name, folder } of adapters) {
    const model = owner === null ? Object.values(models).find(isLanguageModel) : models[owner];
    if (!model || !isLanguageModel(model))
      throw new UsageError(`--adapter: expected a model that generates for ${name}, got none`);
    await loadAdapter(folder, model.model, { name, active: false });
  }
  return models;
}

function isLanguageModel(model: ServableModel): model is LanguageModel {
  return model instanceof LanguageModel;
}
