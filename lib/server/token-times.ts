// Tokens and the times between them, by model, as a counter and a histogram of Prometheus. prom-client looks up the labels
// of every value, which takes microseconds, and there are thousands of tokens in a second.
import { Counter, type Metric, type Registry } from "prom-client";

/** Figures of a model. */
export interface ModelTimes {
  /** Adds a number of tokens. */
  count(tokens: number): void;
  /** Notes a time. */
  observe(seconds: number): void;
}

/** Name and description of a metric. */
type Description = Readonly<{ name: string; help: string }>;

/** Figures of all models. */
export class TokenTimes {
  readonly #bounds: readonly number[];
  readonly #models = new Map<string, Times>();

  /** Adds a counter of tokens and a histogram of times to a registry. */
  constructor(registry: Registry, tokens: Description, times: Description, bounds: readonly number[]) {
    this.#bounds = bounds;
    const models = this.#models;
    new Counter({
      ...{ ...tokens, registers: [registry], labelNames: ["model"] },
      collect() {
        this.reset();
        for (const [model, { tokens }] of models) this.inc({ model }, tokens);
      },
    });
    const values = (): object[] => [...models].flatMap(([model, one]) => one.values(times.name, model));
    const get = () => Promise.resolve({ ...times, type: "histogram", aggregator: "sum", values: values() });
    // The parts of a metric that a registry uses.
    registry.registerMetric({ ...times, get, reset: () => models.clear() } as unknown as Metric);
  }

  /** Returns the figures of a model. */
  of(model: string): ModelTimes {
    const known = this.#models.get(model) ?? new Times(this.#bounds);
    this.#models.set(model, known);
    return known;
  }
}

class Times implements ModelTimes {
  tokens = 0;
  #sum = 0;
  readonly #bounds: readonly number[];
  /** Number of times up to each bound but above the one before it; those above all bounds are last. */
  readonly #counts: number[];

  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.#counts = Array<number>(bounds.length + 1).fill(0);
  }

  count(tokens: number): void {
    this.tokens += tokens;
  }

  observe(seconds: number): void {
    let bucket = 0;
    while (bucket < this.#bounds.length && seconds > this.#bounds[bucket]!) bucket++;
    this.#counts[bucket]!++;
    this.#sum += seconds;
  }

  /** Returns the values of the histogram, in which each bucket contains those before it. */
  values(name: string, model: string): object[] {
    let below = 0;
    const buckets = this.#counts.map((count, i) => ({
      ...{ metricName: `${name}_bucket`, value: (below += count) },
      labels: { le: this.#bounds[i] ?? "+Inf", model },
    }));
    if (below === 0) return [];
    const labels = { model };
    return [
      ...buckets,
      { metricName: `${name}_sum`, value: this.#sum, labels },
      { metricName: `${name}_count`, value: below, labels },
    ];
  }
}
