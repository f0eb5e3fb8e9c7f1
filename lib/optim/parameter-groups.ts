// The parameters of an optimiser, and the groups of them that have settings of their own.
import { checkArray, checkNumber, checkObject } from "../util/check.js";
import { describe, HeedError } from "../util/errors.js";
import { Module } from "../nn/module.js";
import { matchingNames, type NamePattern } from "../nn/name-pattern.js";
import { checkDType, checkTensor } from "../ops/check.js";
import type { FloatTensor } from "../core/tensor.js";

/** Settings of some of the parameters, which replace those of the optimiser. */
export interface ParameterGroup {
  /** Names of the parameters or of layers that contain them, as `freeze` takes them: "h.0", "attn.c_*", /bias$/. */
  names: NamePattern | readonly NamePattern[];
  /** Factor of the learning rate, also when a schedule changes it. @default 1 */
  lrScale?: number;
  /** Weight decay of these parameters, which then all decay. @default that of the optimiser */
  weightDecay?: number;
}

/** Named parameters, or the model that has them. */
export type Trained = Module | Iterable<[string, FloatTensor]>;

type Group = ParameterGroup & Required<Pick<ParameterGroup, "lrScale">>;

/**
 * @internal Checks that there is at least one named tensor, and that those that are trained are f32, and returns all of them.
 * Nothing is allocated before this.
 */
export function checkParameters(op: string, parameters: Trained): [string, FloatTensor][] {
  if (parameters instanceof Module) parameters = parameters.namedParameters();
  if (typeof (parameters as Partial<typeof parameters> | null)?.[Symbol.iterator] !== "function")
    throw new HeedError("ERR_ARGUMENT", `${op}: expected a model or named parameters, got ${describe(parameters)}`);
  const list = [...parameters];
  if (list.length === 0) throw new HeedError("ERR_ARGUMENT", `${op}: expected at least one parameter, got none`);
  for (const entry of list) {
    checkArray(op, "each parameter", entry);
    const [name, tensor] = entry;
    if (typeof name !== "string")
      throw new HeedError("ERR_ARGUMENT", `${op}: expected the name of a parameter, got ${describe(name)}`);
    checkTensor(op, name, tensor);
    if (tensor.isFrozen) continue;
    // What a model of f32 keeps in the 16 bits of its file becomes f32 when it is to be trained.
    tensor.move(tensor.modelDType);
    checkDType(op, name, tensor, "f32");
  }
  return list;
}

/** @internal Returns the group of each parameter that is in one. */
export function groupsOf(op: string, groups: readonly ParameterGroup[], names: readonly string[]): Map<string, Group> {
  checkArray(op, "groups", groups);
  const found = new Map<string, Group>();
  for (const group of groups) {
    checkObject(op, "each group", group);
    const { lrScale = 1, weightDecay } = group;
    checkNumber(op, "lrScale", lrScale, 0, Number.MAX_VALUE);
    if (weightDecay !== undefined) checkNumber(op, "weightDecay", weightDecay, 0, Number.MAX_VALUE);
    for (const name of matchingNames(op, "the names of a group", group.names, names))
      found.set(name, { ...group, lrScale });
  }
  return found;
}

/**
 * @internal Returns the parameters in groups with the same settings and the same count of steps, because a launch uses the
 * same numbers for all of its tensors.
 */
export function alike<P extends { readonly lrScale: number; readonly weightDecay: number; readonly steps: number }>(
  parameters: readonly P[],
): P[][] {
  const groups: P[][] = [];
  for (const parameter of parameters) {
    const { lrScale, weightDecay, steps } = parameter;
    const group = groups.find(
      ([first]) => first!.lrScale === lrScale && first!.weightDecay === weightDecay && first!.steps === steps,
    );
    if (group) group.push(parameter);
    else groups.push([parameter]);
  }
  return groups;
}
