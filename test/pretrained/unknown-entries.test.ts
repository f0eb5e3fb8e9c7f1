/** Entries of config.json that heed does not know are named once, and those of published models are known. */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterEach, expect, test, vi } from "vitest";
import { families } from "../../lib/pretrained/families/index.js";
import { unknownEntries } from "../../lib/pretrained/families/known-entries.js";
import { loadPretrained } from "../../lib/pretrained/load-pretrained.js";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { Llama } from "../../lib/models/llama.js";
import { temporaryFolder } from "../support/folder.js";
import { noReference, sharedReference } from "../support/shared.js";
import { testUnless } from "../support/skip.js";

type Entries = Record<string, unknown>;

afterEach(() => {
  vi.restoreAllMocks();
});

/** Returns the unknown entries of a configuration, or null if heed has no such family. */
function unknownIn(json: Entries): string[] | null {
  const family = Object.values(families)
    .flat()
    .find(({ types }) => types.includes(String(json.model_type)));
  if (!family) return null;
  family.fromConfig(json);
  return unknownEntries(json);
}

const llama = {
  ...{ architectures: ["LlamaForCausalLM"], model_type: "llama", vocab_size: 8, max_position_embeddings: 8 },
  ...{ num_hidden_layers: 1, num_attention_heads: 1, num_key_value_heads: 1, hidden_size: 4, intermediate_size: 4 },
  ...{ hidden_act: "silu", rms_norm_eps: 1e-5, rope_theta: 10_000, rope_scaling: null, tie_word_embeddings: true },
  ...{ attention_bias: false, mlp_bias: false, attention_dropout: 0, bos_token_id: 1, eos_token_id: [2, 3] },
  ...{ initializer_range: 0.02, use_cache: true, torch_dtype: "bfloat16", transformers_version: "4.42.3" },
  ...{ pretraining_tp: 1, is_llama_config: true, rope_interleaved: false, head_dim: 4, pad_token_id: 2 },
  "transformers.js_config": { kv_cache_dtype: { q4f16: "float16" } },
};
const bert = {
  ...{ architectures: ["BertModel"], model_type: "bert", vocab_size: 8, max_position_embeddings: 8, hidden_size: 4 },
  ...{ num_hidden_layers: 1, num_attention_heads: 1, intermediate_size: 4, hidden_act: "gelu", type_vocab_size: 2 },
  ...{ attention_probs_dropout_prob: 0.1, hidden_dropout_prob: 0.1, layer_norm_eps: 1e-12, directionality: "bidi" },
  ...{ pooler_fc_size: 768, pooler_type: "first_token_transform", position_embedding_type: "absolute" },
  ...{ id2label: { 0: "LABEL_0" }, label2id: { LABEL_0: 0 }, problem_type: null, gradient_checkpointing: false },
};
const marian = {
  ...{ model_type: "marian", vocab_size: 9, max_position_embeddings: 8, encoder_layers: 1, decoder_layers: 1 },
  ...{ num_hidden_layers: 1, encoder_attention_heads: 1, decoder_attention_heads: 1, encoder_ffn_dim: 4 },
  ...{
    decoder_ffn_dim: 4,
    d_model: 4,
    decoder_start_token_id: 8,
    eos_token_id: 0,
    pad_token_id: 8,
    scale_embedding: true,
  },
  ...{ activation_dropout: 0, activation_function: "swish", add_bias_logits: false, add_final_layer_norm: false },
  ...{ bad_words_ids: [[8]], classif_dropout: 0, encoder_layerdrop: 0, decoder_layerdrop: 0, dropout: 0.1 },
  ...{ extra_pos_embeddings: 0, force_bos_token_to_be_generated: false, forced_eos_token_id: 0, init_std: 0.02 },
  ...{ max_length: 512, normalize_before: false, normalize_embedding: false, num_beams: 6 },
  ...{ static_position_embeddings: true, attention_dropout: 0, is_encoder_decoder: true, output_past: true },
};
const qwen = {
  ...llama,
  ...{ model_type: "qwen2", sliding_window: 8, use_sliding_window: false, max_window_layers: 28, use_mrope: false },
};

test("entries of published models are known", () => {
  for (const json of [llama, bert, marian, qwen]) expect(unknownIn({ ...json }), json.model_type).toEqual([]);
});

test.each<[Entries, string[]]>([
  [{ ...llama, logit_scale: 0.0625, final_logit_softcapping: 30 }, ["logit_scale", "final_logit_softcapping"]],
  [{ ...llama, auto_map: { AutoModel: "modeling.Model" } }, ["auto_map"]],
  [{ ...llama, rope_scaling: { rope_type: "linear", factor: 2, llama_4_scaling_beta: 0.1 } }, ["rope_scaling.llama_4_scaling_beta"]], // prettier-ignore
  [{ ...llama, rope_interleaved: true, rope_theta: 5 }, ["rope_interleaved"]],
  [{ ...llama, model_type: "mistral", sliding_window: null, attention_bias: true }, ["attention_bias"]],
  [{ ...llama, query_pre_attn_scalar: null, heed_softcap: 3 }, ["heed_softcap"]],
  [{ ...bert, embedding_size: 3 }, ["embedding_size"]],
])("an unknown entry is named: %j", (json, names) => {
  expect(unknownIn({ ...json })).toEqual(names);
});

test("a folder is warned of once, and what heed saves itself never", async () => {
  const warned: string[] = [];
  vi.spyOn(process, "emitWarning").mockImplementation((warning) => void warned.push(String(warning)));
  const folder = path.join(temporaryFolder(), "llama");
  using model = new Llama({ vocabularySize: 8, contextLength: 8, layers: 1, heads: 1, width: 4, feedForwardWidth: 4 }, { device: "cpu" }); // prettier-ignore
  await savePretrained(folder, model);
  const load = async () => (await loadPretrained(folder, { device: "cpu" })).model.dispose();
  await load();
  expect(warned).toEqual([]);
  const file = path.join(folder, "config.json");
  writeFileSync(file, JSON.stringify({ ...(JSON.parse(readFileSync(file, "utf8")) as Entries), logit_scale: 2 }));
  await load();
  await load();
  expect(warned).toEqual([expect.stringMatching(/llama.config\.json: heed does not know logit_scale;/)]);
});

const root = sharedReference("families");

testUnless(!root && noReference)("entries of transformers' own families are known", () => {
  let read = 0;
  for (const name of readdirSync(root!)) {
    const file = path.join(root!, name, "config.json");
    if (name === "README.md") continue;
    const unknown = unknownIn(JSON.parse(readFileSync(file, "utf8")) as Entries);
    if (unknown === null) continue;
    read++;
    expect(unknown, name).toEqual([]);
  }
  expect(read).toBeGreaterThan(15);
});
