/** Adapters that PEFT made, of every kind: heed computes what PEFT does with them, or refuses them by name. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { HeedError } from "../../lib/util/errors.js";
import type { CausalDecoder } from "../../lib/models/causal-decoder.js";
import { families } from "../../lib/pretrained/families/index.js";
import { fromPeftConfig } from "../../lib/pretrained/peft-config.js";
import { loadPretrained } from "../../lib/pretrained/load-pretrained.js";
import { loadAdapter } from "../../lib/pretrained/peft.js";
import { expectNear } from "../support/close.js";
import { expectError } from "../support/errors.js";
import { type Oracle, readOracle } from "../support/oracle.js";
import { noReference, sharedReference } from "../support/shared.js";
import { describeUnless } from "../support/skip.js";

type Entries = Record<string, unknown>;
const readJson = (...parts: string[]): Entries => JSON.parse(readFileSync(path.join(...parts), "utf8")) as Entries;

/** Configuration that PEFT writes for a plain LoRA. */
const plain = {
  ...{ peft_type: "LORA", peft_version: "0.21.2", task_type: "CAUSAL_LM", auto_mapping: null, revision: null },
  ...{ base_model_name_or_path: "base", inference_mode: true, r: 4, lora_alpha: 8, lora_dropout: 0, bias: "none" },
  ...{ target_modules: ["q_proj"], exclude_modules: null, layers_to_transform: null, layers_pattern: null },
  ...{ rank_pattern: {}, alpha_pattern: {}, modules_to_save: null, fan_in_fan_out: false, init_lora_weights: true },
  ...{ use_dora: false, use_rslora: false, use_qalora: false, qalora_group_size: 16, lora_bias: false },
  ...{ loftq_config: {}, eva_config: null, corda_config: null, lora_ga_config: null, megatron_config: null },
  ...{ megatron_core: "megatron.core", trainable_token_indices: null, target_parameters: null, kasa_config: null },
  ...{ alora_invocation_tokens: null, layer_replication: null, use_bdlora: null, arrow_config: null },
  ...{ monteclora_config: null, velora_config: null, ensure_weight_tying: false },
};

describe("adapter_config.json", () => {
  test.each([
    { init_lora_weights: false },
    { init_lora_weights: "gaussian" },
    { init_lora_weights: "Gaussian" },
    { init_lora_weights: "eva", eva_config: { rho: 2 } },
    { init_lora_weights: "orthogonal" },
    { init_lora_weights: "mica" },
    { init_lora_weights: null },
    { corda_config: { corda_method: "kpm" } },
    { loftq_config: { loftq_bits: 4 } },
    { exclude_modules: ["lm_head"], layers_to_transform: [1], layers_pattern: "layers" },
    { target_modules: ".*_proj", task_type: null, auto_mapping: { base_model_class: "LlamaForCausalLM" } },
    { not_yet_known: null, another: {}, third: [], fourth: false },
    { layer_replication: [] },
  ])("%j does not change what an adapter computes", (entries) => {
    expect(fromPeftConfig({ ...plain, ...entries }).settings).toMatchObject({ rank: 4, alpha: 8 });
  });

  test.each([
    { init_lora_weights: "pissa" },
    { init_lora_weights: "pissa_niter_16" },
    { init_lora_weights: "PiSSA" },
    { init_lora_weights: "olora" },
    { init_lora_weights: "corda" },
    { init_lora_weights: "loftq", loftq_config: { loftq_bits: 4 } },
    { init_lora_weights: "lora_ga" },
    { init_lora_weights: "not_yet_known" },
    { init_lora_weights: 1 },
    { alora_invocation_tokens: [7, 9] },
    { alora_invocation_tokens: [] },
    { layer_replication: [[0, 2], [1, 4]] }, // prettier-ignore
    { trainable_token_indices: [5] },
    { trainable_token_indices: { embed_tokens: [5] } },
    { lora_bias: true },
    { use_qalora: true },
    { bias: "lora_only" },
    { target_parameters: ["mlp.experts.down_proj"] },
    { modules_to_save: "lm_head" },
    { rank_pattern: { q_proj: 2 } },
    { alpha_pattern: { q_proj: 2 } },
    { arrow_config: { top_k: 2 } },
    { kasa_config: { beta: 1 } },
    { monteclora_config: { num_samples: 2 } },
    { use_bdlora: { nblocks: 2 } },
    { megatron_config: { tensor_parallel: 2 } },
    { not_yet_known: 1 },
    { not_yet_known: true },
    { peft_type: "IA3" },
  ])("%j is refused by its name", (entries) => {
    const [name] = Object.keys(entries) as [string];
    expectError(() => fromPeftConfig({ ...plain, ...entries }), "ERR_FORMAT", new RegExp(`config: expected ${name} `));
  });
});

const root = sharedReference("peft");
const folders = root
  ? readdirSync(root, { recursive: true, encoding: "utf8" })
      .filter((name) => path.basename(name) === "adapter_config.json")
      .map((name) => path.dirname(name))
      .sort()
  : [];

/** Returns the model that an adapter was made for, or null if heed does not have its family. */
async function baseOf(folder: string): Promise<CausalDecoder | null> {
  const base = path.join(
    root!,
    "..",
    "families",
    path.basename(String(readJson(folder, "adapter_config.json").base_model_name_or_path)),
  );
  const { model_type: type } = readJson(base, "config.json");
  if (!families.causal.some(({ types }) => types.includes(String(type)))) return null;
  return (await loadPretrained(base, { device: "cpu" })).model;
}

/** Returns the tensor of the oracle that has the logits of a single adapter. */
function expectedOf(name: string, oracle: Oracle): string {
  const single = `logits_${path.basename(name)}`;
  return oracle.has(single) ? single : "logits";
}

describeUnless(!root && noReference)("an adapter of PEFT", () => {
  const results: Entries = {};

  test.each(folders)("%s gives PEFT's logits, or is refused by name", async (name) => {
    const folder = path.join(root!, name);
    const oracleFolder = existsSync(path.join(folder, "oracle.safetensors")) ? folder : path.dirname(folder);
    const model = await baseOf(folder);
    if (!model) return;
    try {
      await loadAdapter(folder, model);
    } catch (error) {
      expect(error).toBeInstanceOf(HeedError);
      const { message } = error as HeedError;
      expect(message).toMatch(
        /expected (\w+ to be|modules_to_save in adapter_config.json to name nothing)|got base_model\.model/,
      );
      results[name] = message;
      model.dispose();
      return;
    }
    results[name] = "loads";
    // What a folder below holds is another adapter than that of the reference, unless the reference has its logits.
    const oracle = await readOracle(path.join(oracleFolder, "oracle.safetensors"));
    const own = expectedOf(name, oracle);
    const ids = oracle.ids("ids");
    const out = noGrad(() => model.forward(ids));
    const logits = await out.data();
    const rows = path.dirname(name) === "mixed_batch" ? mixedRows(oracleFolder, path.basename(name)) : null;
    const size = logits.length / ids.shape[0]!;
    const pick = (values: Float32Array): Float32Array =>
      rows
        ? Float32Array.from(rows.flatMap((row) => Array.from(values.subarray(row * size, (row + 1) * size))))
        : values;
    expectNear(name, pick(logits), pick(oracle.floats(own)), 1e-5);
    model.dispose();
  });

  test("the plain ones load, and those of other methods do not", () => {
    for (const name of ["lora", "lora_rslora", "lora_dora_all", "pissa", "olora", "corda", "weighted_cat"])
      expect(results[name], name).toBe("loads");
    for (const name of ["pissa/raw", "pissa_rslora/raw", "olora/raw", "corda/raw"])
      expect(results[name], name).toMatch(/init_lora_weights/);
    expect(results.alora).toMatch(/alora_invocation_tokens/);
    expect(results.ia3).toMatch(/peft_type to be "LORA", got "IA3"/);
  });
});

/** Returns the rows of a mixed batch that have an adapter. */
function mixedRows(folder: string, adapter: string): number[] {
  const { adapter_names: names } = readJson(folder, "case.json") as { adapter_names: string[] };
  return names.flatMap((name, row) => (name === adapter ? [row] : []));
}
