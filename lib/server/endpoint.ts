// An endpoint is a route without HTTP: the plugin serves it, and `heed batch` calls it for each line of a file.
import type { Schema } from "./json-schema.js";
import type { RequestObserver } from "./request-observer.js";
import type { ResponseStore } from "./response-store.js";
import type { ServedModels } from "./served-models.js";

/** Limits of each request. */
export interface RequestLimits {
  /** Largest number of tokens that a request may ask for, per answer. @default the model's context length */
  maxTokens?: number | undefined;
  /** If true, texts to embed, to rank or to classify that are too long are cut, unless a request says otherwise. @default false */
  truncate?: boolean | undefined;
}

/** Surroundings of a call of an endpoint. */
export interface Call {
  readonly models: ServedModels;
  readonly limits: RequestLimits;
  readonly observer: RequestObserver;
  /** Client whose request it is: those of others share no cached beginnings with it. Null if all do. */
  readonly tenant: string | null;
  /** Client whose request it is: nobody else can ask for its stored responses. Null if there are no keys. */
  readonly owner: string | null;
  /** Responses that are kept for further requests. */
  readonly responses: ResponseStore;
  /** Functions to call when the request has been begun: they let go the adapters that it keeps in their models. */
  readonly releases: (() => void)[];
  /** Writes a warning to the log. */
  readonly warn: (text: string) => void;
  /** Signal that is aborted when nobody waits for the answer any more. */
  readonly signal: AbortSignal;
}

/** A stream of events. Nothing of it is computed before it is read. */
export class EventStream {
  constructor(
    /** The events as text. */
    readonly events: AsyncGenerator<string, void, undefined>,
    /** Ends what the events tell about, if nobody reads them any more. */
    readonly leave: () => Promise<void>,
  ) {}
}

/** A route that takes a body. */
export interface Endpoint<Body = unknown> {
  readonly url: string;
  /** Other addresses of the same route, which clients of other servers ask. */
  readonly aliases?: readonly string[];
  readonly summary: string;
  readonly schema: Schema;
  /** Returns the number of answers to a body that matches the schema. @default 1 */
  answers?(body: Body): number;
  /** Resolves to the answer to a body that matches the schema: an object, or an `EventStream`. */
  run(body: Body, call: Call): Promise<object>;
}

/** Returns an endpoint whose body has been checked by its schema, and is of this type. */
export function endpoint<Body>(definition: Endpoint<Body>): Endpoint {
  return definition;
}
