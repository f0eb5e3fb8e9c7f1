/**
 * The engine: tensors, modules, models, training and inference.
 *
 * @module heed
 */
export { type ErrorCode, HeedError } from "./util/errors.js";
export type { WarmUpModel, WarmUpOptions, WarmUpProgress } from "./core/kernel-images.js";
export {
  type Device,
  device,
  type DeviceInfo,
  devices,
  setBackground,
  setTf32,
  setThreads,
  tf32,
  threads,
} from "./core/device.js";
export type { DLPackTensor, LaunchEnvironment, MemoryStats, NativeInterface, NativeTensor } from "./core/native.js";
export { type DataOf, type DType, dtypes, type FloatDType } from "./core/dtype.js";
export type { Shape } from "./core/shape.js";
export { type FloatTensor, type IntTensor, type NestedArray, Tensor } from "./core/tensor.js";
export { empty, full, ones, randn, tensor, type TensorOptions, uniform, zeros } from "./core/creation.js";
export {
  type BufferSource,
  fromBuffer,
  type FromBufferOptions,
  fromDLPack,
  fromNative,
  markWritten,
  nativeInterface,
  toDLPack,
  type ToDLPackOptions,
  toNative,
} from "./core/foreign.js";
export type { SavedTensor } from "./core/saved-tensor.js";
export { keep, scope } from "./core/scope.js";
export { detach, isRecording, noGrad, parameter, recompute, setRecompute } from "./core/autograd.js";
export { gradientCheckpoint } from "./core/gradient-checkpoint.js";

// Operations
export type { BlockFormat } from "./core/block-formats.js";
export * from "./ops/index.js";

// Modules
export { Module, type ParameterOptions, type StateDict } from "./nn/module.js";
export { freeze, unfreeze } from "./nn/freeze.js";
export type { NamePattern } from "./nn/name-pattern.js";
export { Initializer } from "./nn/init.js";
export { Linear, LinearAdapter, type LinearConfig, type LinearForwardOptions } from "./nn/linear.js";
export { BlockWeight, QuantizedWeight } from "./nn/quantized-weight.js";
export { LayerNorm } from "./nn/layer-norm.js";
export {
  RelativePositionBias,
  type RelativePositionBiasConfig,
  relativePositionBucket,
} from "./nn/relative-position-bias.js";
export { RmsNorm } from "./nn/rms-norm.js";
export { pool, type Pooling } from "./nn/pooling.js";
export { Lstm, type LstmConfig } from "./nn/lstm.js";
export { Embedding, type EmbeddingConfig } from "./nn/embedding.js";
export { Dropout, DropoutSeeds } from "./nn/dropout.js";
export type { AttentionContext, AttentionRules } from "./nn/attend.js";
export { type Hook, Observer } from "./nn/observer.js";
export type {
  AttentionProjections,
  Block,
  BlockParts,
  BlockStack,
  FeedForwardProjections,
  Projection,
  StreamNorm,
  StreamReader,
} from "./nn/block-parts.js";
export { Attention, type AttentionConfig } from "./nn/attention.js";
export { FeedForward, type FeedForwardConfig } from "./nn/feed-forward.js";
export { GatedFeedForward, type GatedFeedForwardConfig } from "./nn/gated-feed-forward.js";
export { GroupedAttention, type GroupedAttentionConfig, type GroupedAttentionContext } from "./nn/grouped-attention.js";
export {
  LinearAttention,
  LinearAttentionCache,
  type LinearAttentionCacheConfig,
  type LinearAttentionConfig,
  type LinearAttentionContext,
} from "./nn/linear-attention.js";
export { type Normalization, TransformerBlock, type TransformerBlockConfig } from "./nn/transformer-block.js";
export { CrossAttention, type CrossAttentionConfig, type CrossSource } from "./nn/cross-attention.js";
export { DecoderBlock, type DecoderBlockConfig, type DecoderContext } from "./nn/decoder-block.js";
export { PositionEmbedding, type PositionEmbeddingConfig } from "./nn/position-embedding.js";
export { CrossMemory, type EncodedSource } from "./nn/cross-memory.js";
export type { AttentionCache, LayerCache } from "./nn/attention-cache.js";
export { KvCache, type KvCacheConfig } from "./nn/kv-cache.js";

// Models
export type { SequenceMaskOptions } from "./models/sequence-mask.js";
export { Model, type ModelOptions } from "./models/model.js";
export type { ObserverOption, PassOptions } from "./models/pass.js";
export { Bert } from "./models/bert.js";
export type { BertConfig, BertFamily } from "./models/bert-config.js";
export { fromHuggingFaceBertConfig, toHuggingFaceBertConfig } from "./pretrained/families/bert-config.js";
export { BertForMaskedLM, BertForSequenceClassification, type ClassificationOptions } from "./models/bert-heads.js";
export {
  type CausalBlock,
  CausalDecoder,
  type DecoderForwardOptions,
  type DecoderSizes,
} from "./models/causal-decoder.js";
export {
  Encoder,
  type EncoderForwardOptions,
  EncoderHead,
  type EncoderSizes,
  type MaskedForwardOptions,
  MaskedLanguageModel,
  TextClassifier,
} from "./models/encoder.js";
export { GPT, type GptForwardOptions } from "./models/gpt.js";
export { fromHuggingFaceGptConfig, toHuggingFaceGptConfig } from "./pretrained/families/gpt-config.js";
export { gpt2Sizes, type GptConfig, type Positions } from "./models/gpt-config.js";
export { Llama, LlamaBlock, type LlamaForwardOptions } from "./models/llama.js";
export { fromHuggingFaceLlamaConfig, toHuggingFaceLlamaConfig } from "./pretrained/families/llama-config.js";
export type { LayerType, LlamaConfig } from "./models/llama-config.js";
export { EncoderDecoder } from "./models/encoder-decoder.js";
export {
  type PairOptions,
  type PairSizes,
  SequenceToSequence,
  type SourceOptions,
} from "./models/sequence-to-sequence.js";
export type { EncoderDecoderConfig } from "./models/encoder-decoder-config.js";
export { type SourceModel, TargetDecoder } from "./models/target-decoder.js";
export { T5 } from "./models/t5.js";
export { fromHuggingFaceT5Config, toHuggingFaceT5Config } from "./pretrained/families/t5-config.js";
export type { T5Config } from "./models/t5-config.js";
export { LstmLanguageModel, type LstmLanguageModelConfig } from "./models/lstm-language-model.js";

// Adapters
export {
  activeAdapter,
  adapterNames,
  addAdapter,
  mergeAdapter,
  removeAdapter,
  setAdapter,
  withAdapter,
} from "./adapters/adapters.js";
export { unloadAdapter } from "./adapters/adapter-uses.js";
export type { LoraOptions } from "./adapters/lora-options.js";
export { loadAdapter, type LoadAdapterOptions, saveAdapter, type SaveAdapterOptions } from "./pretrained/peft.js";

// Optimisation
export { AdamW, type AdamWOptions } from "./optim/adamw.js";
export { Lion, type LionOptions } from "./optim/lion.js";
export { Muon, type MuonOptions } from "./optim/muon.js";
export { Optimizer, type OptimizerOptions } from "./optim/optimizer.js";
export type { Shard } from "./optim/shards.js";
export type { ParameterGroup, Trained } from "./optim/parameter-groups.js";
export {
  cosineSchedule,
  type CosineOptions,
  linearSchedule,
  type LinearScheduleOptions,
  type NoamOptions,
  noamSchedule,
  type Schedule,
  type WsdOptions,
  wsdSchedule,
} from "./optim/schedule.js";
export { SGD, type SGDOptions } from "./optim/sgd.js";
export { WeightAverage, type WeightAverageOptions } from "./optim/weight-average.js";

// Tokenizers
export { ByteTokenizer } from "./tokenizer/byte-tokenizer.js";
export { CharTokenizer } from "./tokenizer/char-tokenizer.js";
export { type ChatMessage, type ChatOptions, ChatTemplate } from "./tokenizer/chat-template.js";
export { tokenizerFromJSON } from "./tokenizer/from-json.js";
export { CharacterList } from "./tokenizer/character-list.js";
export { Gpt2Tokenizer } from "./tokenizer/gpt2-tokenizer.js";
export {
  type HuggingFaceDecodeOptions,
  type HuggingFaceEncodeOptions,
  type HuggingFaceJson,
  HuggingFaceTokenizer,
  type HuggingFaceTokenizerParts,
} from "./tokenizer/huggingface-tokenizer.js";
export { Llama2cTokenizer } from "./tokenizer/llama2c-tokenizer.js";
export type { EncodedPair } from "./tokenizer/text-pair.js";
export type { Tool, ToolCall, ToolCallDelta, ToolChoice } from "./tokenizer/tools.js";
export type { TokenStream } from "./tokenizer/token-stream.js";
export type { Tokenizer, TokenizerJSON } from "./tokenizer/tokenizer.js";

// File formats
export { GgufFile, readGguf } from "./formats/gguf.js";
export type { GgmlType } from "./formats/gguf-blocks.js";
export type { GgufEntry } from "./formats/gguf-header.js";
export type { GgufArray, GgufValue } from "./formats/gguf-values.js";
export {
  type GgufInputValue,
  type GgufTensorInput,
  ggufWritable,
  type GgufWritable,
  writeGguf,
} from "./formats/write-gguf.js";
export { type Llama2cConfig, Llama2cFile, readLlama2c } from "./formats/llama2c.js";
export { FolderLock, lockFolder } from "./formats/folder-lock.js";
export { readSafetensors, SafetensorsFile, type SafetensorsInput, writeSafetensors } from "./formats/safetensors.js";
export { CTranslate2File, type CTranslate2Spec, readCTranslate2 } from "./formats/ctranslate2.js";
export type { SafetensorsDType, SafetensorsEntry } from "./formats/safetensors-header.js";
export { readShardedSafetensors, ShardedSafetensors } from "./formats/sharded-safetensors.js";
export type { WeightEntry, WeightFile } from "./formats/weights.js";

// Published models
export { datasetFolder } from "./hub/dataset-folder.js";
export { pretrainedFolder } from "./hub/pretrained-folder.js";
export type { DownloadProgress, PretrainedOptions } from "./hub/pretrained-options.js";
export { type GgufModel, loadGguf, type LoadGgufOptions } from "./pretrained/gguf/load-gguf.js";
export type { SaveProgress } from "./pretrained/save-progress.js";
export { saveLlama2c, type SaveLlama2cOptions } from "./pretrained/families/save-llama2c.js";
export { savePretrained, type SavePretrainedOptions } from "./pretrained/save-pretrained.js";
export { type InputImportance, inputImportance } from "./pretrained/input-importance.js";
export { quantizeBySearch, type QuantizeBySearchOptions } from "./pretrained/gptq/quantize-by-search.js";
export { type GgufFallback, saveGguf, type SaveGgufOptions } from "./pretrained/gguf/save-gguf.js";
export {
  type CTranslate2Model,
  type CTranslate2Options,
  loadCTranslate2,
} from "./pretrained/families/load-ctranslate2.js";
export { loadLlama2c } from "./pretrained/families/load-llama2c.js";
export { loadTokenizer } from "./pretrained/load-tokenizer.js";
export type { GenerationDefaults } from "./pretrained/generation-config.js";
export type { PretrainedKinds } from "./pretrained/families/index.js";
export { loadPretrained, type LoadPretrainedOptions, type PretrainedModel } from "./pretrained/load-pretrained.js";
export type { LoadQuantizedOptions } from "./pretrained/quantize-options.js";
export { loadWeights, type LoadWeightsOptions } from "./pretrained/load-weights.js";

// Models ready for use
export { load, type LoadOptions, type ModelKinds } from "./load/load.js";
export {
  type ChatGenerationOptions,
  type GenerationOptions,
  type HookOptions,
  LanguageModel,
  type LanguageModelParts,
  type OwnEngineOptions,
} from "./load/language-model.js";
export { EmbeddingModel, type EmbeddingModelParts } from "./load/embedding-model.js";
export {
  ClassifierModel,
  type ClassifierModelParts,
  type LabelScore,
  type RankedDocument,
  type RankOptions,
} from "./load/classifier-model.js";
export { type Translation, Translator, type TranslatorParts } from "./load/translator.js";
export type { LoadModelOptions, ModelKind, TextCodec } from "./pretrained/load-model.js";

// Training
export { Collectives, type CollectivesOptions } from "./distributed/collectives.js";
export type { Reduction } from "./distributed/kinds.js";
export { launched } from "./distributed/launch.js";
export type { DistributedOptions } from "./distributed/options.js";
export { PendingCollective } from "./distributed/pending-collective.js";

export { type Batch, Batches, type BatchOptions } from "./data/batches.js";
export {
  type Checkpoint,
  type CheckpointContent,
  loadCheckpoint,
  type LoadCheckpointOptions,
  type OptimizerState,
  saveCheckpoint,
} from "./train/checkpoint.js";
export type { TrainerState } from "./train/trainer-state.js";
export type { LoadedTensors } from "./pretrained/saved-tensors.js";
export type { BestState } from "./train/best.js";
export type { LossScaleOptions, LossScaleState } from "./train/loss-scale.js";
export type { SpikeOptions, SpikeState } from "./train/spikes.js";
export { evaluate, type Evaluation, type EvaluationOptions } from "./train/evaluate.js";
export type {
  AbortedEvent,
  CheckpointEvent,
  CheckpointFailedEvent,
  EvaluationEvent,
  FinishedEvent,
  ReturnedEvent,
  StepEvent,
  TrainerCallbacks,
  TrainerEvent,
  TrainingResult,
} from "./train/events.js";
export { chatExamples, textExample, withChatTemplate } from "./data/chat-examples.js";
export { dpoLoss } from "./train/dpo.js";
export type { PreferencePair } from "./data/preference-pair.js";
export { type PackedExamples, packExamples, type PackOptions, type TrainingExample } from "./data/pack-examples.js";
export { readExamples, type ReadExamplesOptions } from "./data/read-examples.js";
export type { SequenceSource, TrainingSequence } from "./data/sequence-source.js";
export { type MaskedTokens, type MaskingOptions, maskTokens } from "./data/mask-tokens.js";
export {
  sliceSource,
  splitSource,
  tokenData,
  type TokenDType,
  TokenFile,
  type TokenSource,
} from "./data/token-data.js";
export type { BatchPosition, DataPosition } from "./train/position.js";
export type { TrainableModel } from "./train/trainable-model.js";
export { Trainer } from "./train/trainer.js";
export type { TrainerOptions } from "./train/trainer-options.js";
export type { CheckpointOptions, EarlyStopping, TrainingOptions } from "./train/training-options.js";
export { TrainingLoop } from "./train/training-loop.js";
export type { GivenOptions, OptimizerChoice } from "./train/optimizers.js";
export { TaskTrainer, type TaskTrainerOptions } from "./train/task-trainer.js";
export type { BatchData, BatchSource } from "./train/batch-feed.js";
export type { LossFunction, Task, TaskContext } from "./train/task.js";
export { classification, type ClassifyingModel, type LabelledTexts } from "./train/tasks/classification.js";
export {
  contrastive,
  type ContrastiveOptions,
  type ContrastivePairs,
  type EncodingModel,
} from "./train/tasks/contrastive.js";
export { languageModelling } from "./train/tasks/language-modelling.js";
export { maskedWords, type MaskedWordsOptions, type MaskingModel } from "./train/tasks/masked-words.js";
export type { Ids } from "./train/tasks/padded.js";
export { preferences } from "./train/tasks/preferences.js";
export {
  type SequencePairs,
  sequenceToSequence,
  type SequenceToSequenceOptions,
  type TranslatingModel,
} from "./train/tasks/sequence-to-sequence.js";

// Data sets
export type { BadLine } from "./data/bad-lines.js";
export { DataLoader, type DataLoaderState } from "./data/data-loader.js";
export type { InputOptions } from "./data/inputs.js";
export { type MixtureOptions, type MixturePart, mixSequences } from "./data/mix-sequences.js";
export { readPairs } from "./data/read-pairs.js";
export { readRecords, type ReadRecordsOptions } from "./data/read-records.js";
export type { DataKind, DataRecord, PreferenceRecord } from "./data/records.js";
export { shardSequences, type ShardSequenceOptions } from "./data/shard-sequences.js";
export type { DataStatistics } from "./data/shard-index.js";
export { TokenShards } from "./data/token-shards.js";
export { type DataProgress, writeShards, type WriteShardsOptions } from "./data/write-shards.js";
export type { ExampleRecord } from "./data/example-record.js";
// Evaluation
export type { EvaluatedModel, EvaluationSettings } from "./evaluation/engine-options.js";
export { perplexity, type PerplexityOptions, type PerplexityResult } from "./evaluation/perplexity.js";
export { defineTask, type DefineTaskOptions, readTask } from "./evaluation/task.js";
export type { EvaluationTask } from "./evaluation/evaluation-task.js";
export type { TaskDocument } from "./evaluation/documents.js";
export type { OutputType } from "./evaluation/task-fields.js";
export {
  evaluateTask,
  type EvaluateTaskOptions,
  type MetricResult,
  type TaskResult,
  type TaskSample,
} from "./evaluation/evaluate-task.js";
export { bleu } from "./evaluation/metrics/bleu.js";
export { chrf } from "./evaluation/metrics/chrf.js";
export { exactMatch, type ExactMatchOptions } from "./evaluation/metrics/exact-match.js";
export { squadF1 } from "./evaluation/metrics/squad-f1.js";

// Reports
export { TensorBoard, type TensorBoardOptions } from "./report/tensorboard.js";
export { readRun } from "./report/read-run.js";
export type { RunSample, TrainingRun } from "./report/training-run.js";
export { trainingReport } from "./report/training-report.js";

// Embeddings and labels of texts
export {
  embedTexts,
  embedTokens,
  type EmbeddingRecipe,
  type EmbedTextsOptions,
  type EmbeddingEncoder,
} from "./embed/embed-texts.js";
export type { EmbeddingTokenizer, TextPair } from "./embed/encode-texts.js";
export type { ClassificationRecipe, ClassifyOptions, ScoreFunction } from "./embed/classification.js";

// Generation
export type { JsonSchema } from "./util/json-schema.js";
export type { OutputFormat } from "./structured/output-format.js";
export type { Hypothesis } from "./generate/beam.js";
export { beamSearch, type BeamSearchOptions, wuPenalty } from "./generate/beam-search.js";
export type { CausalModel } from "./generate/causal-model.js";
export { DivergedError } from "./generate/diverged.js";
export { generate } from "./generate/generate-text.js";
export {
  type GeneratedText,
  Generation,
  type GenerationEvent,
  type GenerationResult,
  type TokenLogprob,
  type TokenLogprobs,
} from "./generate/generation.js";
export { type GeneratedTokens, generateTokens } from "./generate/generate-tokens.js";
export type { TextOptions, TokenOptions } from "./generate/options.js";
export { type Score, score, type ScoreOptions } from "./generate/score.js";
export type { FinishReason } from "./generate/sequence.js";
export { translate, type TranslateOptions, type TranslationModel } from "./generate/translate.js";

// Serving
export { BusyError } from "./engine/busy-error.js";
export { Engine } from "./engine/engine.js";
export type { EngineMetrics, EngineOptions } from "./engine/engine-options.js";
export type { ConversationOptions, EngineRequest, RequestOptions } from "./engine/engine-request.js";
export type { ScoreRequest } from "./engine/score-tokens.js";
export type { TokenScores } from "./engine/scoring.js";
export type { KvType } from "./nn/kv-pages.js";
export type { RequestSummary, TimeDistribution } from "./engine/statistics.js";
export type { SpeculationOptions } from "./engine/speculation.js";
