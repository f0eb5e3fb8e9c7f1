// Adapters of a model: small trained changes of its linear layers. A model may have several, of which one or none is
// active. Choosing another copies nothing.
import { describe, HeedError } from "../util/errors.js";
import { DropoutSeeds } from "../nn/dropout.js";
import { freeze } from "../nn/freeze.js";
import { Initializer } from "../nn/init.js";
import { Linear } from "../nn/linear.js";
import { checkModule, type Module, type StateDict } from "../nn/module.js";
import { matchingNames } from "../nn/name-pattern.js";
import { checkBoolean, checkFunction, checkInteger } from "../util/check.js";
import type { FloatTensor } from "../core/tensor.js";
import { LayerAdapters } from "./layer-adapters.js";
import { Lora } from "./lora.js";
import { type LoraOptions, loraSettings } from "./lora-options.js";

/** A linear layer that has adapters. */
interface Adapted {
  /** Name of the layer in the model. */
  name: string;
  layer: Linear;
  adapters: LayerAdapters;
}

function* adaptedLayers(model: Module): Generator<Adapted> {
  // A request to an engine asks for the active adapter, and most programs have none.
  if (!LayerAdapters.exist) return;
  for (const [name, layer] of model.modules())
    if (layer instanceof Linear && layer.adapter instanceof LayerAdapters)
      yield { name, layer, adapters: layer.adapter };
}

/**
 * Adds a LoRA or DoRA to linear layers of a model and makes it the active adapter. All other parameters are frozen.
 * Returns the names of the layers. With `active: false` the model computes and trains what it did before; requests to an
 * `Engine` can then choose the adapter by its name.
 *
 * The adapter's parameters are f32, whatever the dtype of the model's own weights. A is drawn from Kaiming's uniform
 * distribution and B is zeros, so that the model's results do not change at first.
 *
 * The head of a classifier (`BertForSequenceClassification`) is usually new. It stays trainable beside the adapter and is
 * saved with it, as PEFT's modules_to_save are; `freeze(model, "classifier")` keeps it as it is. A model has one head, which
 * all of its adapters share.
 *
 * @example
 * addAdapter(gpt, { rank: 4, alpha: 8, targets: ["c_attn", "mlp"] });
 * gpt.parameterCount({ trainable: true }); // only A and B
 *
 * @throws ERR_ARGUMENT if a target matches no linear layer, the model has an adapter of this name, or an option is
 *   invalid; ERR_RANGE if a number is out of range.
 * @see Hu et al. 2021, https://arxiv.org/abs/2106.09685; Liu et al. 2024, https://arxiv.org/abs/2402.09353
 */
export function addAdapter(model: Module, options: LoraOptions = {}): string[] {
  const op = "addAdapter";
  checkModule(op, model);
  const settings = loraSettings(op, options);
  const { targets, name = "default", active = true, seed = 0 } = options;
  checkBoolean(op, "active", active);
  checkInteger(op, "seed", seed, 0);
  if (typeof name !== "string" || !/^[\w-]+$/.test(name))
    throw new HeedError(
      "ERR_ARGUMENT",
      `${op}: expected name to consist of letters, digits, _ and -, got ${describe(name)}`,
    );
  if (adapterNames(model).includes(name))
    throw new HeedError("ERR_ARGUMENT", `${op}: expected a new name, got ${name}, which the model's adapter has`);
  const layers = new Map([...model.modules()].filter((entry): entry is [string, Linear] => entry[1] instanceof Linear));
  const names = [...layers.keys()];
  const chosen = targets === undefined ? usualTargets(op, names) : matchingNames(op, "targets", targets, names);
  const { dropoutSeeds } = model as { dropoutSeeds?: unknown };
  const seeds = dropoutSeeds instanceof DropoutSeeds ? dropoutSeeds : new DropoutSeeds(seed);
  const [first] = layers.values();
  const init = new Initializer(seed, deviceOf(first!));
  if (active) freeze(model);
  for (const target of chosen) {
    const layer = layers.get(target)!;
    const lora = new Lora(layer, settings, init, seeds);
    if (!layer.training) lora.eval();
    if (!active) freeze(lora);
    const adapters = layer.adapter instanceof LayerAdapters ? layer.adapter : new LayerAdapters();
    adapters.loras.set(name, lora);
    layer.adapter = adapters;
  }
  if (active) setAdapter(model, name);
  return [...chosen];
}

/** Returns the layers that are adapted by default: those in lists of blocks, or all if the model has no such list. */
function usualTargets(op: string, names: readonly string[]): Set<string> {
  if (names.length === 0) throw new HeedError("ERR_ARGUMENT", `${op}: expected a model with linear layers, got none`);
  const inBlocks = names.filter((name) => /(^|\.)\d+\./.test(name));
  return new Set(inBlocks.length > 0 ? inBlocks : names);
}

function deviceOf({ quantized, weight }: Linear): FloatTensor["device"] {
  return (quantized ?? weight).device;
}

/**
 * Returns the names of a model's adapters, in the order in which they were added.
 *
 * @example
 * addAdapter(gpt, { name: "polite" });
 * adapterNames(gpt); // ["polite"]
 */
export function adapterNames(model: Module): string[] {
  checkModule("adapterNames", model);
  const found = new Map<string, number>();
  for (const { adapters } of adaptedLayers(model))
    for (const [name, { number }] of adapters.loras) found.set(name, Math.min(number, found.get(name) ?? number));
  return [...found].sort(([, a], [, b]) => a - b).map(([name]) => name);
}

/**
 * Returns the name of the model's active adapter, or null if none is active.
 *
 * @example
 * addAdapter(gpt, { name: "polite" });
 * activeAdapter(gpt); // "polite"
 */
export function activeAdapter(model: Module): string | null {
  checkModule("activeAdapter", model);
  for (const { adapters } of adaptedLayers(model))
    for (const [name, lora] of adapters.loras) if (lora === adapters.current) return name;
  return null;
}

/**
 * Chooses the adapter that takes part in the model's results, or none (null). Only its parameters are trainable
 * afterwards. An `Engine` computes its requests again with the new choice.
 *
 * @example
 * addAdapter(gpt, { name: "polite" });
 * setAdapter(gpt, null); // the model as it was before
 * setAdapter(gpt, "polite");
 *
 * @throws ERR_ARGUMENT if the model has no adapter of this name.
 */
export function setAdapter(model: Module, name: string | null): void {
  choose("setAdapter", model, name);
  for (const { adapters } of adaptedLayers(model))
    for (const [own, lora] of adapters.loras)
      for (const parameter of lora.parameters()) parameter.requiresGrad = own === name;
  for (const parameter of Object.values(headParameters(model))) parameter.requiresGrad = name !== null;
  noteChange(model);
}

/**
 * Returns the parameters of a model's head by name: those that are trained beside an adapter. A layer of the head that is
 * itself adapted, or quantised, is none of them.
 */
export function headParameters(model: Module): StateDict {
  const { headLayers = [] } = model as { headLayers?: readonly string[] };
  const layers = new Map(model.modules());
  return Object.fromEntries(
    headLayers.flatMap((name) => {
      const layer = layers.get(name);
      if (!(layer instanceof Linear) || layer.adapter || layer.quantized) return [];
      return [...layer.namedParameters()].map(([part, tensor]) => [`${name}.${part}`, tensor] as const);
    }),
  );
}

/**
 * Runs a synchronous function with another active adapter, or with none (null), and returns its result. Nothing else
 * about the model changes.
 *
 * @example
 * addAdapter(gpt);
 * const ids = tensor([[72, 105]], [1, 2], { dtype: "i32" });
 * const before = withAdapter(gpt, null, () => noGrad(() => gpt.forward(ids)));
 *
 * @throws ERR_ARGUMENT if the model has no adapter of this name, or `body` is not a function.
 */
export function withAdapter<T>(model: Module, name: string | null, body: () => T): T {
  checkFunction("withAdapter", body);
  const before = activeAdapter(model);
  choose("withAdapter", model, name);
  try {
    return body();
  } finally {
    choose("withAdapter", model, before);
  }
}

function choose(op: string, model: Module, name: string | null): void {
  checkModule(op, model);
  if (name !== null) checkName(op, model, name);
  for (const { adapters } of adaptedLayers(model)) adapters.choose(name);
}

/**
 * @internal Checks that a model has an adapter.
 *
 * @throws ERR_ARGUMENT if it has none of this name; the message lists the names of those that it has.
 */
export function checkName(op: string, model: Module, name: string): void {
  const names = adapterNames(model);
  if (names.includes(name)) return;
  const have = names.length === 0 ? "a model with an adapter" : `the name of an adapter (${names.join(", ")})`;
  throw new HeedError(
    "ERR_ARGUMENT",
    `${op}: expected ${have}, got ${names.length === 0 ? "one without" : describe(name)}`,
  );
}

/**
 * Marks the model as changed. Whoever keeps results of its weights (an engine's keys and values, recorded steps)
 * compares the versions of its parameters.
 */
function noteChange(model: Module): void {
  model.parameters()[0]?.overwritten();
}

/**
 * Removes an adapter from a model and frees its memory. If it was active, none is active afterwards. Requests to an
 * `Engine` that use the adapter fail; `unloadAdapter` waits for them instead.
 *
 * @example
 * addAdapter(gpt, { name: "polite" });
 * removeAdapter(gpt, "polite");
 *
 * @throws ERR_ARGUMENT if the model has no adapter of this name.
 */
export function removeAdapter(model: Module, name: string): void {
  checkModule("removeAdapter", model);
  checkName("removeAdapter", model, name);
  const active = activeAdapter(model) === name;
  detachAdapter(model, name)();
  if (active) noteChange(model);
}

/**
 * @internal Takes an adapter out of a model. If it was active, none is active afterwards. Returns a function that frees it:
 * until then, passes that have prepared it (`AdapterBank`) compute with it.
 */
export function detachAdapter(model: Module, name: string): () => void {
  if (activeAdapter(model) === name) choose("removeAdapter", model, null);
  const detached = [...adaptedLayers(model)].flatMap(({ layer, adapters }) => {
    const lora = adapters.loras.get(name);
    adapters.loras.delete(name);
    return lora ? [{ layer, adapters, lora }] : [];
  });
  return () => {
    for (const { layer, adapters, lora } of detached) {
      lora.dispose();
      if (adapters.loras.size === 0 && layer.adapter === adapters) layer.adapter = null;
    }
  };
}

/** @internal Gives an adapter a name that no adapter of the model has. */
export function renameAdapter(model: Module, from: string, to: string): void {
  for (const { adapters } of adaptedLayers(model)) {
    const lora = adapters.loras.get(from);
    if (!lora) continue;
    adapters.loras.delete(from);
    adapters.loras.set(to, lora);
  }
}

/**
 * Writes the active adapter's change into the model's own weights, and removes all adapters. The model then computes
 * the same, up to rounding, at the cost of the model without adapters, and can be saved like any other. Its parameters
 * stay frozen; see `unfreeze`.
 *
 * @example
 * addAdapter(gpt);
 * mergeAdapter(gpt);
 * await savePretrained("merged", gpt);
 *
 * @throws ERR_ARGUMENT if no adapter is active, or a layer is quantised; `dequantize` such a model first.
 */
export function mergeAdapter(model: Module): void {
  const op = "mergeAdapter";
  checkModule(op, model);
  const layers = [...adaptedLayers(model)];
  if (!layers.some(({ adapters }) => adapters.active))
    throw new HeedError("ERR_ARGUMENT", `${op}: expected a model with an active adapter, got one without`);
  if (layers.some(({ layer, adapters }) => adapters.active && layer.quantized))
    throw new HeedError(
      "ERR_ARGUMENT",
      `${op}: expected a model that is not quantised, got a quantised one; call model.dequantize() first, which takes more memory, or add the adapter to the model that it was quantised from`,
    );
  for (const { layer, adapters } of layers) adapters.current?.mergeInto(layer);
  for (const name of adapterNames(model)) removeAdapter(model, name);
}

/** Returns the parameters of a model without those of its adapters, by name. */
export function baseParameters(model: Module): StateDict {
  const added = new Set<FloatTensor>();
  for (const { adapters } of adaptedLayers(model)) for (const tensor of adapters.parameters()) added.add(tensor);
  return Object.fromEntries([...model.namedParameters()].filter(([, tensor]) => !added.has(tensor)));
}

/** Returns the layers of an adapter, by their names in the model. */
export function lorasOf(model: Module, name: string): Map<string, { layer: Linear; lora: Lora }> {
  const found = new Map<string, { layer: Linear; lora: Lora }>();
  for (const { name: at, layer, adapters } of adaptedLayers(model)) {
    const lora = adapters.loras.get(name);
    if (lora) found.set(at, { layer, lora });
  }
  return found;
}
