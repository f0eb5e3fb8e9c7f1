// What is measured of a document, and the metrics of a task that follow from it.
import { bleuCounts, bleuOf } from "./metrics/bleu.js";
import { chrfCounts, chrfOf } from "./metrics/chrf.js";
import { exactMatch } from "./metrics/exact-match.js";
import { squadF1 } from "./metrics/squad-f1.js";
import { bootstrapOf, type Estimate, expOf, meanOf, ratioOf, scaled } from "./statistics.js";
import type { TaskMetric } from "./task-fields.js";

/** Measurements of a document; log-probabilities are in nats. */
export type Measured =
  | {
      readonly kind: "choice";
      readonly logProbabilities: readonly number[];
      /** Number of characters of each choice. */
      readonly lengths: readonly number[];
      /** Indices of the right choices. */
      readonly right: readonly number[];
    }
  | { readonly kind: "likelihood"; readonly total: number; readonly greedy: boolean }
  | { readonly kind: "text"; readonly total: number; readonly words: number; readonly bytes: number }
  | { readonly kind: "generated"; readonly text: string; readonly targets: readonly string[] };

type Of<K extends Measured["kind"]> = Extract<Measured, { kind: K }>;

/** Returns the value of a metric over all documents. */
export function measure(metric: TaskMetric, measured: readonly Measured[]): Estimate {
  const choices = measured as readonly Of<"choice">[];
  const likelihoods = measured as readonly Of<"likelihood">[];
  const texts = measured as readonly Of<"text">[];
  const generated = measured as readonly Of<"generated">[];
  switch (metric.metric) {
    case "acc":
      if (measured[0]!.kind === "likelihood") return meanOf(likelihoods.map(({ greedy }) => Number(greedy)));
      return meanOf(choices.map(({ logProbabilities, right }) => hit(logProbabilities, right)));
    case "acc_norm":
      return meanOf(
        choices.map(({ logProbabilities, lengths, right }) =>
          hit(
            logProbabilities.map((value, i) => value / lengths[i]!),
            right,
          ),
        ),
      );
    case "perplexity":
      return expOf(meanOf(likelihoods.map(({ total }) => -total)));
    case "word_perplexity":
      return expOf(ratioOf(texts.map(({ total, words }) => [-total, words])));
    case "byte_perplexity":
      return expOf(ratioOf(texts.map(({ total, bytes }) => [-total, bytes])));
    case "bits_per_byte":
      return scaled(ratioOf(texts.map(({ total, bytes }) => [-total, bytes])), 1 / Math.LN2);
    case "exact_match":
      return meanOf(generated.map(({ text, targets }) => exactMatch(text, targets, metric)));
    case "f1":
      return meanOf(generated.map(({ text, targets }) => squadF1(text, targets)));
    case "bleu":
      return bootstrapOf(
        generated.map(({ text, targets }) => bleuCounts(text, targets)),
        bleuOf,
      );
    default:
      return bootstrapOf(
        generated.map(({ text, targets }) => chrfCounts(text, targets)),
        chrfOf,
      );
  }
}

/** Returns 1 if the first of the highest scores is that of a right choice, and else 0. */
function hit(scores: readonly number[], right: readonly number[]): number {
  return right.includes(scores.indexOf(Math.max(...scores))) ? 1 : 0;
}
