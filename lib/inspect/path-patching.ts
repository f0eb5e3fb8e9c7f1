import { noGrad } from "../core/autograd.js";
import { checkArray, checkBoolean, checkChoice, checkFunction, checkObject } from "../util/check.js";
import { HeedError } from "../util/errors.js";
import type { Hook } from "../nn/observer.js";
import { checkTensor } from "../ops/check.js";
import { formatShape, sameShape } from "../core/shape.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";
import type { ActivationCache } from "./activation-cache.js";
import type { StackHookName } from "./corpus.js";
import { type EditPlace, replaceWith } from "./edits.js";
import { checkNames, hookNames, type InspectedStack } from "./hook-names.js";
import { measure } from "./measure.js";
import { type HooksOf, inTurn, run, type RunOptions, runWithCache } from "./run.js";

const kinds = ["heads", "mlps"] as const;

/** Value that receives what a sender sends, or a part of it. */
export interface PathReceiver extends EditPlace {
  /**
   * Name of the value, such as `blocks.5.attn.hook_q` for queries, or `hook_resid_post` of the last block for all that
   * goes to the logits directly.
   */
  name: StackHookName;
}

/** Options of `pathPatching`. */
export type PathPatchingOptions = Omit<RunOptions<InspectedStack>, "stopAtLayer" | "hooks"> & {
  /** Ids i32 [B, T] of the run whose values the senders send. */
  source: IntTensor;
  /** Returns what is measured, a tensor of one element, from the output. */
  metric: (output: FloatTensor) => FloatTensor;
  /** Values that receive what a sender sends. */
  receivers: readonly PathReceiver[];
  /** Senders, one at a time: the heads of every block, or its feed-forward. @default "heads" */
  senders?: (typeof kinds)[number];
  /** Positions at which a sender has the value of the other run. @default all */
  positions?: readonly number[];
  /**
   * True if the feed-forward layers between sender and receiver keep their values, so that only the direct path counts.
   * By default they pass on what they receive, as in Wang et al.
   *
   * @default false
   */
  freezeMlps?: boolean;
};

/** Metrics of a run in which one path at a time carries the values of another run. */
export interface PathGrid {
  /** Metric of the run itself. */
  base: number;
  /** Metric of the run whose values are sent. */
  source: number;
  /** `patched[layer][head]`, or `patched[layer][0]` for feed-forward layers. It is `base` for senders that come too late. */
  patched: number[][];
}

/**
 * Resolves to a grid of metrics: a run in which the receivers read, from one sender at a time, what it computes in
 * another run. Between them, the heads keep the values of the run, so that nothing but paths that pass no other head
 * carries the change.
 *
 * @param ids ids i32 [B, T] of the run, as many as those of `source`
 *
 * @example
 * const ids = (text: string) => tensor(tokenizer.encode(text), [1, text.length]);
 * const metric = (logits: FloatTensor) => logitDifference(logits, [97], [98]);
 * const receivers = [{ name: "blocks.1.attn.hook_q", heads: [0] }] as const;
 * const { patched } = await pathPatching(gpt, ids("abab"), { source: ids("cbcb"), metric, receivers });
 *
 * @throws the errors of `run`; ERR_SHAPE if the runs differ in shape or the metric has several elements; ERR_ARGUMENT if
 *   a receiver is a value that the method keeps.
 * @see Wang et al. 2022, "Interpretability in the Wild", arXiv:2211.00593; Goldowsky-Dill et al. 2023,
 *   arXiv:2304.05969.
 */
export async function pathPatching(
  model: InspectedStack,
  ids: IntTensor,
  options: PathPatchingOptions,
): Promise<PathGrid> {
  const op = "pathPatching";
  checkTensor(op, "ids", ids);
  checkObject(op, "options", options);
  const { source, metric, receivers, senders = "heads", positions, freezeMlps = false, ...rest } = options;
  checkTensor(op, "source", source, ids);
  checkFunction(op, metric);
  checkChoice(op, "senders", senders, kinds);
  checkBoolean(op, "freezeMlps", freezeMlps);
  if (!sameShape(source.shape, ids.shape))
    throw new HeedError("ERR_SHAPE", `${op}: expected source of shape ${formatShape(ids.shape)}, got ${source}`);
  const names = hookNames(model) as StackHookName[];
  const ends = (end: string): StackHookName[] => names.filter((name) => name.endsWith(end));
  const kept = [...ends("attn.hook_z"), ...(freezeMlps ? ends("hook_mlp_out") : [])];
  const sent = ends(senders === "heads" ? "attn.hook_z" : "hook_mlp_out");
  checkReceivers(op, receivers, names, kept);
  const passOptions = rest as RunOptions<InspectedStack>;
  const wanted = receivers.map(({ name }) => name);
  using base = runWithCache(model, ids, { ...passOptions, names: kept });
  using other = runWithCache(model, source, { ...passOptions, names: sent });
  const last = Math.max(...wanted.map((name) => names.indexOf(name)));
  const place = positions ? { positions } : {};
  const patched = sent.map((sender) => {
    const heads = senders === "heads" ? other.get(sender).shape[2]! : 1;
    return Array.from({ length: heads }, (_, head) => {
      if (names.indexOf(sender) > last) return null;
      const edit = replaceWith(other.get(sender), senders === "heads" ? { heads: [head], ...place } : place);
      using received = runWithCache(model, ids, {
        ...passOptions,
        names: wanted,
        hooks: sending(kept, base, sender, edit),
      });
      return measure(op, () => metric(run(model, ids, { ...passOptions, hooks: receiving(receivers, received) })));
    });
  });
  const [own, theirs] = await Promise.all([
    measure(op, () => metric(base.output)),
    measure(op, () => metric(other.output)),
  ]);
  const grid = await Promise.all(patched.map((row) => Promise.all(row.map((value) => value ?? Promise.resolve(own)))));
  return { base: own, source: theirs, patched: grid };
}

function checkReceivers(
  op: string,
  receivers: readonly PathReceiver[],
  names: readonly string[],
  kept: readonly string[],
): void {
  checkArray(op, "receivers", receivers);
  if (receivers.length === 0) throw new HeedError("ERR_ARGUMENT", `${op}: expected at least one receiver, got none`);
  for (const receiver of receivers) checkObject(op, "each receiver", receiver);
  checkNames(
    op,
    receivers.map(({ name }) => name),
    names,
  );
  const wrong = receivers.find(({ name }) => kept.includes(name));
  if (wrong)
    throw new HeedError(
      "ERR_ARGUMENT",
      `${op}: expected a receiver that reads the residual stream, such as hook_q, got ${wrong.name}`,
    );
}

/** Returns the hooks of a pass in which all values stay as they are in `base`, except that the sender's is edited. */
function sending(
  kept: readonly StackHookName[],
  base: ActivationCache<StackHookName>,
  sender: StackHookName,
  edit: Hook,
): HooksOf<InspectedStack> {
  const hooks = new Map<string, Hook>(kept.map((name) => [name, replaceWith(base.get(name))]));
  hooks.set(sender, inTurn(hooks.get(sender), edit));
  return Object.fromEntries(hooks);
}

/** Returns the hooks of a pass in which the receivers have received their values. */
function receiving(
  receivers: readonly PathReceiver[],
  received: ActivationCache<StackHookName>,
): HooksOf<InspectedStack> {
  const hooks = new Map<string, Hook>();
  for (const { name, ...place } of receivers)
    hooks.set(
      name,
      inTurn(
        hooks.get(name),
        noGrad(() => replaceWith(received.get(name), place)),
      ),
    );
  return Object.fromEntries(hooks);
}
