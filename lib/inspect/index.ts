export { ActivationCache } from "./activation-cache.js";
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
  type PairHookName,
} from "./hook-names.js";
export { logitDifference } from "./metrics.js";
export { type CacheOptions, type HooksOf, type InputOf, run, type RunOptions, runWithCache } from "./run.js";
export { type AttributionOptions, type LogitContribution, logitAttribution } from "./attribution.js";
export { type HeadBehaviour, headScores, type HeadScoreOptions } from "./head-scores.js";
export { integratedGradients, type IntegratedGradientsOptions } from "./integrated-gradients.js";
export { logitLens } from "./logit-lens.js";
export { inspectionPage, type InspectionPageOptions } from "./page/inspection-page.js";
export {
  activationPatching,
  causalTrace,
  type CausalTraceOptions,
  type PatchingGrid,
  type PatchingOptions,
  type PatchSite,
} from "./patching.js";
