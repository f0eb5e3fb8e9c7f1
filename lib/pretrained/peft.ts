// Saves and loads adapters in the layout of Hugging Face's PEFT: adapter_model.safetensors and adapter_config.json.
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { retireAdapter } from "../adapters/adapter-uses.js";
import {
  activeAdapter,
  adapterNames,
  addAdapter,
  headParameters,
  lorasOf,
  removeAdapter,
  renameAdapter,
  setAdapter,
} from "../adapters/adapters.js";
import type { Lora } from "../adapters/lora.js";
import { checkBoolean, checkObject } from "../util/check.js";
import { describe, HeedError } from "../util/errors.js";
import { inFile, naming, readJsonFile } from "../util/files.js";
import { writeTextAtomic } from "../formats/atomic-file.js";
import { readSafetensors, type SafetensorsFile, writeSafetensors } from "../formats/safetensors.js";
import { freeze } from "../nn/freeze.js";
import { Linear } from "../nn/linear.js";
import { checkModule, type Module } from "../nn/module.js";
import { formatShape, sameShape, type Shape } from "../core/shape.js";
import type { FloatTensor } from "../core/tensor.js";
import { fromPeftConfig, type PeftConfig, toPeftConfig } from "./peft-config.js";
import { type PeftNames, peftNames, type PeftPart } from "./peft-names.js";

/** Names of the files of an adapter. */
export const adapterFiles = { config: "adapter_config.json", weights: "adapter_model.safetensors" } as const;

/** Options of `saveAdapter`. */
export interface SaveAdapterOptions {
  /** Name of the adapter in the model. @default the active adapter */
  name?: string;
  /** Path, or name on the hub, of the model that the adapter belongs to. It is saved with it. @default null (none) */
  base?: string | null;
}

/** Options of `loadAdapter`. */
export interface LoadAdapterOptions {
  /** Name that the adapter gets in the model. @default "default" */
  name?: string;
  /** False if the adapter that is active now, or none, stays active. No parameter is then frozen. @default true */
  active?: boolean;
  /**
   * Replaces the adapter that has the name, if there is one. New requests to an `Engine` get the new one, and none is
   * refused; those that run end with the old one, whose memory is then freed. If the old one is active, so is the new one.
   *
   * @default false
   */
  replace?: boolean;
}

/**
 * Saves an adapter of a GPT, a model of the Llama family or a `BertForSequenceClassification` in a folder, in PEFT's layout.
 * The head of a classifier is saved with it.
 *
 * @example
 * addAdapter(gpt, { rank: 4 });
 * await saveAdapter("my-adapter", gpt);
 *
 * @throws ERR_ARGUMENT if the model has no such adapter, or PEFT's layout does not describe its layers.
 * @throws ERR_IO if the files cannot be written.
 * @see https://huggingface.co/docs/peft
 */
export async function saveAdapter(folder: string, model: Module, options: SaveAdapterOptions = {}): Promise<void> {
  const op = "saveAdapter";
  checkModule(op, model);
  checkObject(op, "options", options);
  const { base = null } = options;
  const name = options.name ?? activeAdapter(model);
  const loras = name === null ? null : lorasOf(model, name);
  if (!loras || loras.size === 0)
    throw new HeedError(
      "ERR_ARGUMENT",
      `${op}: expected a model with ${name === null ? "an active adapter" : `an adapter ${describe(name)}`}, got one without`,
    );
  const names = peftNames(op, model);
  const [first] = loras.values();
  const { settings } = first!.lora;
  const head = Object.entries(headParameters(model));
  const config = toPeftConfig(
    { settings, base, modulesToSave: modulesOf(head, names) },
    targetsOf(model, new Set(loras.keys()), names),
    { fanInFanOut: first!.layer.layout === "io", task: head.length > 0 ? "SEQ_CLS" : "CAUSAL_LM" },
  );
  await naming(folder, () => mkdir(folder, { recursive: true }));
  const tensors = [...loras].flatMap(([layer, { lora }]) =>
    partsOf(lora).map(([part, tensor]) => ({
      name: names.tensor(layer, part),
      dtype: "F32" as const,
      shape: tensor.shape,
      data: async function* () {
        yield names.toFile(layer, part, await tensor.data());
      },
    })),
  );
  const whole = head.map(([parameter, tensor]) => ({
    name: names.parameter(parameter),
    dtype: "F32" as const,
    shape: tensor.shape,
    data: async function* () {
      yield await tensor.data();
    },
  }));
  await writeSafetensors(path.join(folder, adapterFiles.weights), [...tensors, ...whole], { format: "pt" });
  await writeTextAtomic(path.join(folder, adapterFiles.config), [`${JSON.stringify(config, null, 2)}\n`]);
}

/**
 * Adds an adapter in PEFT's layout to a model, makes it active, and freezes all other parameters. Resolves to the path
 * or name of the model that the adapter was made for, if its files say it, or null. With `active: false` the model
 * computes what it did before, also while an `Engine` serves it, and requests can choose the adapter by its name. If the
 * files have the head of a classifier (PEFT's modules_to_save), it replaces the model's head.
 *
 * @example
 * addAdapter(gpt, { rank: 4 });
 * await saveAdapter("rank-4", gpt);
 * await loadAdapter("rank-4", gpt, { name: "again" });
 * setAdapter(gpt, "default"); // back to the first one
 *
 * @throws ERR_IO or ERR_FORMAT if a file is missing, malformed or of another model; the message names it. An adapter that was
 * to be replaced stays.
 * @throws ERR_ARGUMENT if the model has an adapter of this name and `replace` is false, or PEFT's layout does not describe its
 * layers.
 * @throws ERR_BUSY if the adapter to be replaced is being unloaded.
 */
export async function loadAdapter(
  folder: string,
  model: Module,
  options: LoadAdapterOptions = {},
): Promise<{ base: string | null }> {
  const op = "loadAdapter";
  checkModule(op, model);
  checkObject(op, "options", options);
  const { name = "default", active = true, replace = false } = options;
  checkBoolean(op, "active", active);
  checkBoolean(op, "replace", replace);
  const names = peftNames(op, model);
  const { settings, base, modulesToSave } = await readAdapterConfig(folder);
  await using file = await readSafetensors(path.join(folder, adapterFiles.weights));
  const head = headIn(file, names, model, modulesToSave);
  if (head.size > 0 && !active)
    throw new HeedError(
      "ERR_ARGUMENT",
      `${op}: expected active to be true for ${folder}, whose head (${modulesToSave.join(", ")}) replaces that of the model`,
    );
  const layers = layersIn(file, names, model, settings, new Set(head.keys()));
  const targets = [...layers].map((layer) => new RegExp(`^${layer.replaceAll(".", String.raw`\.`)}$`));
  // Everything is read first: whoever computes with the model meanwhile must not see half of an adapter.
  const values = new Map<string, Float32Array>();
  const parts: PeftPart[] = ["lora_A", "lora_B", ...(settings.dora ? ["lora_magnitude_vector" as const] : [])];
  for (const layer of layers)
    for (const part of parts)
      values.set(
        `${layer}/${part}`,
        names.fromFile(layer, part, await file.readFloats(tensorIn(file, names, layer, part))),
      );
  const headValues = new Map<FloatTensor, Float32Array>();
  for (const [name, tensor] of head) headValues.set(tensor, await file.readFloats(name));
  const fill = (own: string): void => {
    for (const [layer, { lora }] of lorasOf(model, own))
      for (const [part, tensor] of partsOf(lora)) tensor.set(values.get(`${layer}/${part}`)!);
  };
  if (replace && adapterNames(model).includes(name)) {
    const isActive = active || activeAdapter(model) === name;
    replaceAdapter(op, model, name, (own) => {
      addAdapter(model, { ...settings, name: own, targets, active: false });
      fill(own);
    });
    if (active) freeze(model);
    if (isActive) setAdapter(model, name);
  } else {
    addAdapter(model, { ...settings, name, targets, active });
    fill(name);
  }
  for (const [tensor, numbers] of headValues) tensor.set(numbers);
  return { base };
}

/** Replaces an adapter by the one that `add` adds under another name. If that fails, nothing changes. */
function replaceAdapter(op: string, model: Module, name: string, add: (own: string) => void): void {
  const names = adapterNames(model);
  let own = `${name}-new`;
  while (names.includes(own)) own += "-";
  try {
    add(own);
    retireAdapter(op, model, name);
  } catch (error) {
    if (adapterNames(model).includes(own)) removeAdapter(model, own);
    throw error;
  }
  renameAdapter(model, own, name);
}

/**
 * Returns the settings of the adapter in a folder.
 *
 * @throws ERR_IO or ERR_FORMAT if its adapter_config.json cannot be read, or heed does not support it.
 */
export async function readAdapterConfig(folder: string): Promise<PeftConfig> {
  const file = path.join(folder, adapterFiles.config);
  const json = await readJsonFile(file);
  return inFile(file, () => fromPeftConfig(json));
}

function partsOf(lora: Lora): [PeftPart, Lora["lora_A"]][] {
  const { lora_A, lora_B, lora_magnitude_vector: magnitude } = lora;
  return [
    ["lora_A", lora_A],
    ["lora_B", lora_B],
    ...(magnitude ? [["lora_magnitude_vector", magnitude] as [PeftPart, Lora["lora_A"]]] : []),
  ];
}

/** Returns the name of a part in a file. Some versions of PEFT end the magnitude's name with ".weight". */
function tensorIn({ tensors }: SafetensorsFile, names: PeftNames, layer: string, part: PeftPart): string {
  const name = names.tensor(layer, part);
  return tensors.has(name) ? name : `${name}.weight`;
}

/**
 * Returns the tensors of a file that replace parameters of the model's head.
 *
 * @throws ERR_FORMAT if the adapter has layers of its own that are no part of a head, or one is missing or of another shape.
 */
function headIn(
  file: SafetensorsFile,
  names: PeftNames,
  model: Module,
  modulesToSave: readonly string[],
): Map<string, FloatTensor> {
  const fault = (message: string): HeedError => new HeedError("ERR_FORMAT", `${file.path}: ${message}`);
  const head = Object.entries(headParameters(model));
  const own = modulesOf(head, names);
  // PEFT lists the usual names of heads, which not every model has.
  const usual = ["classifier", "score"];
  const other = modulesToSave.find((name) => !own.includes(name) && !(own.length > 0 && usual.includes(name)));
  if (other !== undefined)
    throw fault(
      `expected modules_to_save in ${adapterFiles.config} to name ${own.length > 0 ? `the model's head (${own.join(", ")})` : "nothing, because the model has no head for classifying"}, got ${describe(other)}`,
    );
  const saved = head.filter(([name]) => modulesToSave.includes(modulesOf([[name]], names)[0]!));
  return new Map(
    saved.map(([name, tensor]) => {
      const inFile = names.parameter(name);
      const got = file.tensors.get(inFile)?.shape;
      if (!got || !sameShape(got, tensor.shape))
        throw fault(`expected ${inFile} of shape ${formatShape(tensor.shape)}, got ${got ? formatShape(got) : "none"}`);
      return [inFile, tensor];
    }),
  );
}

/** Returns the names of the modules in transformers that contain parameters, such as "classifier". */
function modulesOf(parameters: readonly (readonly [name: string, ...unknown[]])[], names: PeftNames): string[] {
  const own = parameters.map(([name]) => names.layerInFile(name.slice(0, name.lastIndexOf("."))).split(".")[0]!);
  return [...new Set(own)];
}

/**
 * Returns the names of the layers that a file has an adapter for.
 *
 * @throws ERR_FORMAT if a tensor belongs to no layer, is missing or has another shape.
 */
function layersIn(
  file: SafetensorsFile,
  names: PeftNames,
  model: Module,
  { rank, dora }: PeftConfig["settings"],
  head: ReadonlySet<string>,
): Set<string> {
  const fault = (message: string): HeedError => new HeedError("ERR_FORMAT", `${file.path}: ${message}`);
  const layers = new Set<string>();
  for (const tensor of file.tensors.keys()) {
    if (head.has(tensor)) continue;
    const found = names.find(tensor);
    if (!found) throw fault(`expected adapters of the model's linear layers only, got ${tensor}`);
    if (found.part === "lora_magnitude_vector" && !dora)
      throw fault(`expected no magnitudes without use_dora in ${adapterFiles.config}, got ${tensor}`);
    layers.add(found.layer);
  }
  if (layers.size === 0) throw fault("expected at least one tensor, got none");
  for (const [name, layer] of model.modules()) {
    if (!layers.has(name) || !(layer instanceof Linear)) continue;
    const { inputs, outputs } = layer;
    const shapes: [PeftPart, Shape][] = [
      ["lora_A", [rank, inputs]],
      ["lora_B", [outputs, rank]],
      ...(dora ? [["lora_magnitude_vector", [outputs]] as [PeftPart, Shape]] : []),
    ];
    for (const [part, shape] of shapes) {
      const tensor = tensorIn(file, names, name, part);
      const got = file.tensors.get(tensor)?.shape;
      if (!got || !sameShape(got, shape))
        throw fault(`expected ${tensor} of shape ${formatShape(shape)}, got ${got ? formatShape(got) : "none"}`);
    }
  }
  return layers;
}

/**
 * Returns "target_modules": the last parts of the layers' names, if every layer with such a name is adapted, or else
 * the whole names.
 */
function targetsOf(model: Module, adapted: ReadonlySet<string>, names: PeftNames): string[] {
  const last = (name: string): string => names.layerInFile(name).replace(/.*\./, "");
  const short = new Set([...adapted].map(last));
  for (const [name, layer] of model.modules())
    if (layer instanceof Linear && short.has(last(name)) && !adapted.has(name))
      return [...adapted].map((whole) => names.layerInFile(whole));
  return [...short];
}
