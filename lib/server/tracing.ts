// Spans for OpenTelemetry, if the app has its API: one for each request to a model, named and described by the
// conventions for generative AI, https://opentelemetry.io/docs/specs/semconv/gen-ai/.
import type { RequestObserver } from "./request-observer.js";

/** Resolves to an observer that records spans, or to null if `@opentelemetry/api` is not installed. */
export async function tracing(): Promise<RequestObserver | null> {
  const api = await import("@opentelemetry/api").catch(() => null);
  if (!api) return null;
  const tracer = api.trace.getTracer("heed");
  return {
    begin(operation, model) {
      const span = tracer.startSpan(`${operation} ${model}`, {
        kind: api.SpanKind.SERVER,
        attributes: { "gen_ai.operation.name": operation, "gen_ai.request.model": model },
      });
      let begun = false;
      return {
        tokens() {
          if (!begun) span.addEvent("first token");
          begun = true;
        },
        end({ promptTokens, completionTokens, finishReasons }, error) {
          span.setAttributes({
            "gen_ai.usage.input_tokens": promptTokens,
            "gen_ai.usage.output_tokens": completionTokens,
            "gen_ai.response.finish_reasons": [...finishReasons],
          });
          if (error !== undefined) {
            span.setAttribute("error.type", error instanceof Error ? error.name : typeof error);
            span.setStatus({ code: api.SpanStatusCode.ERROR });
          }
          span.end();
        },
      };
    },
  };
}
