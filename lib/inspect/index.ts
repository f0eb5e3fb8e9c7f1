export { ActivationCache } from "./activation-cache.js";
export { NamedTensors } from "./named-tensors.js";
export { addTo, type EditPlace, replaceWith } from "./edits.js";
export { type GradientOptions, type GradientRun, runWithGradients } from "./gradients.js";
export {
  type BlockHookName,
  type CrossBlockHookName,
  type DecoderHookName,
  type EncoderBlockHookName,
  type EncoderHookName,
  type HookName,
  type HookNameOf,
  hookNames,
  type HookSelection,
  type InspectedDecoder,
  type InspectedEncoder,
  type InspectedModel,
  type InspectedPair,
  type InspectedStack,
  type PairHookName,
} from "./hook-names.js";
export { logitDifference } from "./metrics.js";
export { type CacheOptions, type HooksOf, type InputOf, run, type RunOptions, runWithCache } from "./run.js";
export { HookedDecoder, HookedPair, withHooks } from "./hooked-model.js";
export type { CorpusOptions, StackHookName, TokenSequences } from "./corpus.js";

export { type AttributionOptions, type LogitContribution, logitAttribution } from "./attribution.js";
export { neuronAttribution, sourceAttribution } from "./direct-attribution.js";
export { decomposeResidual, type DecompositionErrors, ResidualDecomposition } from "./decomposition.js";
export { type HeadBehaviour, headScores, type HeadScoreOptions } from "./head-scores.js";
export { integratedGradients, type IntegratedGradientsOptions } from "./integrated-gradients.js";
export { logitLens } from "./logit-lens.js";
export { TunedLens, type TunedLensConfig } from "./tuned-lens.js";
export { lensDivergence, trainTunedLens, type TunedLensOptions } from "./train-tuned-lens.js";

export { meanActivations, type MeanOptions, resampleFrom, type ResampleOptions } from "./ablation.js";
export { inspectionPage, type InspectionPageOptions } from "./page/inspection-page.js";
export {
  activationPatching,
  causalTrace,
  type CausalTraceOptions,
  type PairStack,
  type PatchingGrid,
  type PatchingOptions,
  type PatchSite,
} from "./patching.js";
export { type AttributionGrid, attributionPatching, type AttributionPatchingOptions } from "./attribution-patching.js";
export { type PathGrid, pathPatching, type PathPatchingOptions, type PathReceiver } from "./path-patching.js";
export { steeringVector, type SteeringOptions } from "./steering.js";

export { type CircuitOptions, type CircuitSvd, circuitSvd, type HeadCircuit, headCircuit } from "./head-circuits.js";
export type { AttentionPlace } from "./module-weights.js";
export { copyingScores, type CopyingOptions } from "./copying-scores.js";
export { type Composition, type CompositionOptions, compositionScores } from "./composition-scores.js";

export { type CollectedActivations, collectActivations, type CollectOptions } from "./collect-activations.js";
export { LinearProbe, type ProbeAccuracy, type ProbeOptions, type ProbeResult, trainProbe } from "./probe.js";
export { type TopActivation, topActivations, type TopActivationsOptions } from "./top-activations.js";

export { type SaeArchitecture, SparseAutoencoder, type SparseAutoencoderConfig } from "./sae/sparse-autoencoder.js";
export { type SaeStep, type SaeTrainingOptions, trainSparseAutoencoder } from "./sae/train.js";
export { loadSparseAutoencoder, saveSparseAutoencoder } from "./sae/files.js";
export { evaluateSparseAutoencoder, type SaeEvaluation, type SaeEvaluationOptions } from "./sae/evaluate.js";
export { type DashboardOptions, type FeatureDashboard, featureDashboards, type TokenEffect } from "./sae/dashboard.js";
