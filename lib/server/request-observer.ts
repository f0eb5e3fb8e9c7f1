// What the server tells about the requests that it runs: to metrics and to traces.

/** Result of a request. */
export interface Outcome {
  promptTokens: number;
  completionTokens: number;
  finishReasons: readonly string[];
}

/** Observer of one request. */
export interface Observation {
  /** Is called with the number of tokens whenever some have been generated. */
  tokens(count: number): void;
  /** Is called once, at the end. */
  end(outcome: Outcome, error?: unknown): void;
}

/** Observer of all requests to models. */
export interface RequestObserver {
  /** Is called when a request begins. `operation` is a name of OpenTelemetry's conventions for generative AI. */
  begin(operation: "chat" | "text_completion" | "embeddings", model: string): Observation;
}

/** Returns an observer that tells several others. */
export function observers(all: readonly RequestObserver[]): RequestObserver {
  return {
    begin(operation, model) {
      const each = all.map((observer) => observer.begin(operation, model));
      return {
        tokens(count) {
          for (const one of each) one.tokens(count);
        },
        end: (outcome, error) => each.forEach((one) => one.end(outcome, error)),
      };
    },
  };
}
