// Figures for Prometheus: https://prometheus.io/docs/practices/naming/
import type { FastifyInstance } from "fastify";
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";
import type { EngineMetrics } from "../engine/engine-options.js";
import { MemoryMeter } from "./memory-parts.js";
import type { RequestObserver } from "./request-observer.js";
import type { ServedModels } from "./served-models.js";

const seconds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120];
const shortSeconds = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1];

/** Figures about the process, which all servers in it share. */
let ofProcess: Registry | null = null;

/** Serves /metrics, and returns an observer that counts. */
export function serveMetrics(app: FastifyInstance, models: ServedModels): RequestObserver {
  const registry = new Registry();
  if (!ofProcess) {
    ofProcess = new Registry();
    collectDefaultMetrics({ register: ofProcess });
  }
  countRequests(app, registry);
  const readAgain = readEngines(registry, models);
  describeModels(registry, models);
  measureMemory(registry, models);
  const { observer, forget } = countTokens(registry);
  app.get("/metrics", { schema: { summary: "Figures for Prometheus", hide: true } }, async (_request, reply) => {
    reply.type(registry.contentType);
    readAgain();
    await forget(new Set(models.all.map(({ id }) => id)));
    return Registry.merge([ofProcess!, registry]).metrics();
  });
  return observer;
}

function countRequests(app: FastifyInstance, registry: Registry): void {
  const registers = [registry];
  const requests = new Counter({
    ...{ name: "heed_http_requests_total", help: "Requests that were answered.", registers },
    labelNames: ["method", "route", "status"],
  });
  const duration = new Histogram({
    ...{ name: "heed_http_request_duration_seconds", help: "Time until the end of an answer.", registers },
    ...{ labelNames: ["method", "route"], buckets: seconds },
  });
  app.addHook("onResponse", (request, reply, done) => {
    const labels = { method: request.method, route: request.routeOptions.url ?? "none" };
    requests.inc({ ...labels, status: reply.statusCode });
    duration.observe(labels, reply.elapsedTime / 1000);
    done();
  });
}

/** Returns an observer that counts tokens, and a function that forgets those of models that are not among the ones given. */
function countTokens(registry: Registry): {
  observer: RequestObserver;
  forget: (models: ReadonlySet<string>) => Promise<void>;
} {
  const common = { registers: [registry], labelNames: ["model"] };
  const counter = (name: string, help: string) => new Counter({ ...common, name, help });
  const prompts = counter("heed_prompt_tokens_total", "Tokens of prompts and of embedded texts.");
  // Each token is counted, so they go to the counter only when somebody reads it.
  const completed = new Map<string, number>();
  const completions = new Counter({
    ...{ ...common, name: "heed_completion_tokens_total", help: "Tokens of answers that were sent." },
    collect() {
      for (const [model, count] of completed) this.inc({ model }, count);
      completed.clear();
    },
  });
  const failures = counter("heed_failures_total", "Requests to a model that failed or were aborted.");
  const answers = new Counter({
    ...{ ...common, name: "heed_answers_total", help: "Answers, by the reason why they ended." },
    labelNames: ["model", "finish_reason"],
  });
  const first = new Histogram({
    ...{ ...common, name: "heed_time_to_first_token_seconds", help: "Time until the first token of an answer." },
    buckets: seconds,
  });
  const between = new Histogram({
    ...{ ...common, name: "heed_time_per_output_token_seconds", help: "Time between tokens after the first." },
    buckets: shortSeconds,
  });
  const forget = async (models: ReadonlySet<string>): Promise<void> => {
    for (const metric of [prompts, completions, failures, answers, first, between])
      for (const { labels } of (await metric.get()).values) {
        const { model, finish_reason: reason } = labels as { model: string; finish_reason?: string };
        if (!models.has(model)) metric.remove({ model, ...(reason !== undefined && { finish_reason: reason }) });
      }
  };
  const observer: RequestObserver = {
    begin(_operation, model) {
      let last = performance.now();
      let begun = false;
      const labels = { model };
      return {
        tokens(count) {
          const now = performance.now();
          const passed = (now - last) / 1000;
          if (begun && count > 0) between.observe(labels, passed / count);
          else if (!begun) first.observe(labels, passed);
          begun = true;
          last = now;
          completed.set(model, (completed.get(model) ?? 0) + count);
        },
        end({ promptTokens, finishReasons }, error) {
          prompts.inc({ model }, promptTokens);
          for (const reason of finishReasons) answers.inc({ model, finish_reason: reason });
          if (error !== undefined) failures.inc({ model });
        },
      };
    },
  };
  return { observer, forget };
}

/** Figures of the engine that only grow, and others. */
const counters: Partial<Record<keyof EngineMetrics, [name: string, help: string]>> = {
  steps: ["heed_engine_steps_total", "Steps of the engine."],
  computedTokens: ["heed_engine_computed_tokens_total", "Tokens that steps computed, of prompts and answers."],
  cachedTokens: ["heed_engine_cached_tokens_total", "Tokens of prompts that the prefix cache had."],
  generatedTokens: ["heed_engine_generated_tokens_total", "Tokens that were generated."],
  preemptions: ["heed_engine_preemptions_total", "Requests that lost their pages to others."],
};
const gauges: Partial<Record<keyof EngineMetrics, [name: string, help: string]>> = {
  waiting: ["heed_engine_requests_waiting", "Requests that wait."],
  running: ["heed_engine_requests_running", "Requests that run."],
  pages: ["heed_engine_kv_pages", "Pages of KV memory."],
  contextLength: ["heed_engine_context_tokens", "Largest number of tokens of a prompt and its answer."],
  kvMemory: ["heed_engine_kv_limit_bytes", "Bytes that the KV memory may have at most."],
  kvBytes: ["heed_engine_kv_bytes", "Bytes of KV memory."],
  kvResident: ["heed_engine_kv_resident_bytes", "Bytes of KV memory that the system has given so far."],
  pagesUsed: ["heed_engine_kv_pages_used", "Pages that requests use."],
  pagesShared: ["heed_engine_kv_pages_shared", "Pages that more than one request uses."],
};

/** Registers what was chosen for each model. */
function describeModels(registry: Registry, models: ServedModels): void {
  const registers = [registry];
  new Gauge({
    ...{ name: "heed_model_info", help: "The number 1, with what was chosen for the model as labels.", registers },
    labelNames: ["model", "dtype", "kv_type", "device"],
    collect() {
      this.reset();
      for (const { id, dtype, kvType, device } of models.summaries)
        this.set({ model: id, dtype, kv_type: kvType ?? "none", device }, 1);
    },
  });
  new Gauge({
    ...{ name: "heed_model_weights_bytes", help: "Bytes of the model's weights.", registers, labelNames: ["model"] },
    collect() {
      this.reset();
      for (const { id, weightsBytes } of models.summaries) this.set({ model: id }, weightsBytes);
    },
  });
}

/** Registers the parts of the process's memory. */
function measureMemory(registry: Registry, models: ServedModels): void {
  const meter = new MemoryMeter(models);
  new Gauge({
    ...{ name: "heed_memory_bytes", help: "Memory of the process, by what it is for.", registers: [registry] },
    labelNames: ["part"],
    collect() {
      const { weights, keysAndValues, work, heap, program } = meter.read();
      const parts = { weights, keys_and_values: keysAndValues, work, heap, program };
      for (const [part, bytes] of Object.entries(parts)) this.set({ part }, bytes);
    },
  });
}

/** Registers the figures of the engines. Returns a function that reads them for the next answer, once for all figures. */
function readEngines(registry: Registry, models: ServedModels): () => void {
  let engines: ReturnType<ServedModels["metrics"]> = [];
  const figures = (list: typeof counters) => Object.entries(list) as [keyof EngineMetrics, [string, string]][];
  const common = { registers: [registry], labelNames: ["model"] };
  for (const [key, [name, help]] of figures(counters))
    new Counter({
      ...{ ...common, name, help },
      collect() {
        this.reset();
        for (const { id, metrics } of engines) this.inc({ model: id }, metrics[key] as number);
      },
    });
  for (const [key, [name, help]] of figures(gauges))
    new Gauge({
      ...{ ...common, name, help },
      collect() {
        this.reset();
        for (const { id, metrics } of engines) this.set({ model: id }, metrics[key] as number);
      },
    });
  return () => {
    engines = models.metrics();
  };
}
