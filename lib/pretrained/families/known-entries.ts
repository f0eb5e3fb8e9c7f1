// Entries of config.json that do not change what a model computes. Those that a family reads are noted while it reads them;
// whatever is left is unknown to heed, and the user is told.

/** Entries that concern files, training, generation or the shape of results, and no model's computation. */
const harmless: ReadonlySet<string> = new Set([
  // Files and programs.
  ...[
    "_name_or_path",
    "architectures",
    "model_type",
    "transformers_version",
    "torch_dtype",
    "dtype",
    "tokenizer_class",
  ],
  ...["transformers.js_config", "unsloth_fixed", "unsloth_version", "is_llama_config", "language", "prefix"],
  ...["quantization_config", "attn_implementation", "_attn_implementation", "_attn_implementation_autoset"],
  ...["use_cache", "use_bfloat16", "torchscript", "tf_legacy_loss", "chunk_size_feed_forward", "pretraining_tp"],
  ...["_flash_attn_2_enabled", "use_flash_attn", "reorder_and_upcast_attn", "gradient_checkpointing"],
  // Results, and heads that are not part of the model.
  ...["output_attentions", "output_hidden_states", "output_scores", "output_past", "return_dict", "use_return_dict"],
  ...["return_dict_in_generate", "num_labels", "id2label", "label2id", "problem_type", "finetuning_task"],
  ...["task_specific_params", "summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type"],
  ...["summary_use_proj", "directionality", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers"],
  ...["pooler_size_per_head", "pooler_type", "is_encoder_decoder", "n_ctx", "n_special", "predict_special_tokens"],
  // Numbers of a vector that stand for the whole, which the recipe reads (sentence-transformers.ts).
  ...["matryoshka_dimensions", "is_matryoshka", "truncate_dim"],
  // First values and dropout in training.
  ...["initializer_range", "initializer_factor", "init_std", "classifier_dropout", "classif_dropout", "qa_dropout"],
  ...["seq_classif_dropout", "embd_pdrop", "attn_pdrop", "activation_dropout", "layerdrop", "encoder_layerdrop"],
  ...["decoder_layerdrop", "sinusoidal_pos_embds"],
  // Tokens and generation.
  ...["bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "cls_token_id", "mask_token_id", "unk_token_id"],
  ...["decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id", "bad_words_ids", "suppress_tokens"],
  ...["begin_suppress_tokens", "max_length", "min_length", "do_sample", "early_stopping", "num_beams"],
  ...["num_beam_groups", "diversity_penalty", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty"],
  ...["length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "num_return_sequences"],
  ...["exponential_decay_length_penalty", "remove_invalid_values", "max_new_tokens"],
]);

/** Values with which entries change nothing. */
const neutral: Readonly<Record<string, unknown>> = {
  ...{ is_decoder: false, add_cross_attention: false, tie_encoder_decoder: false, rope_interleaved: false },
  ...{
    attention_bias: false,
    mlp_bias: false,
    pruned_heads: {},
    add_bias_logits: false,
    force_bos_token_to_be_generated: false,
    extra_pos_embeddings: 0,
  },
};

/** Entries that some families read only in some cases, and other families not at all. */
const harmlessIn: Readonly<Record<string, readonly string[]>> = {
  // Encoders have no output projection, and the head of their pretraining refuses one of its own.
  ...Object.fromEntries(
    ["bert", "roberta", "xlm-roberta", "distilbert"].map((type) => [type, ["tie_word_embeddings"]]),
  ),
  qwen2: ["max_window_layers", "sliding_window", "use_mrope"],
  qwen3: ["max_window_layers", "sliding_window"],
};

/** Entries of `rope_scaling` and `rope_parameters` that heed reads, or that change nothing. */
const ofRope: ReadonlySet<string> = new Set([
  ...["rope_type", "type", "rope_theta", "partial_rotary_factor", "factor", "original_max_position_embeddings"],
  ...["attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate", "finetuned"],
  ...["low_freq_factor", "high_freq_factor", "short_factor", "long_factor"],
]);

/** Entries that have been read, by the content of their config.json. */
const read = new WeakMap<object, Set<string>>();

/** Returns a configuration that notes which of its entries are read, as entries of the content of a config.json. */
export function noting<T extends object>(json: object, config: T): T {
  const names = read.get(json) ?? new Set<string>();
  read.set(json, names);
  return new Proxy(config, {
    get(target, name, receiver) {
      if (typeof name === "string") names.add(name);
      return Reflect.get(target, name, receiver) as unknown;
    },
  });
}

/** Counts an entry of a config.json as read. */
export function noteRead(json: object, name: string): void {
  read.get(json)?.add(name);
}

/** Returns the names of the entries of a config.json that heed does not know, after a family has read it. */
export function unknownEntries(json: unknown): string[] {
  const config = json as Readonly<Record<string, unknown>>;
  const known = new Set([...(read.get(config) ?? []), ...(harmlessIn[String(config.model_type)] ?? [])]);
  const isNeutral = (name: string, value: unknown): boolean =>
    value === null || (Object.hasOwn(neutral, name) && JSON.stringify(value) === JSON.stringify(neutral[name]));
  return Object.entries(config).flatMap(([name, value]) => {
    if (name === "rope_scaling" || name === "rope_parameters")
      return Object.keys(value ?? {})
        .filter((part) => !ofRope.has(part))
        .map((part) => `${name}.${part}`);
    return known.has(name) || harmless.has(name) || isNeutral(name, value) ? [] : [name];
  });
}

/** Files whose entries the user has been told of. */
const told = new Set<string>();

/** Warns once of the entries of a config.json that heed does not know. */
export function warnOfUnknown(file: string, json: unknown): void {
  const names = unknownEntries(json);
  if (names.length === 0 || told.has(file)) return;
  told.add(file);
  process.emitWarning(
    `${file}: heed does not know ${names.join(", ")}; if that changes what the model computes, its results here are others`,
    { type: "HeedWarning", code: "HEED_UNKNOWN_ENTRY" },
  );
}
