// Bodies of requests. JSON is parsed and checked in one turn of the event loop, and how long that takes depends on the
// number of values more than on the number of bytes. So the values are counted before, as the body arrives.
import type { FastifyInstance, FastifyRequest } from "fastify";
import { describe } from "../util/errors.js";
import { turnWithRoom } from "../util/turns.js";
import { ApiError } from "./api-error.js";
import { JsonCounter } from "./json-counter.js";

/** Largest number of values in a body: the tokens of a long prompt, with room. */
const mostValues = 200_000;
/** Largest number of names in a body, each of which takes as long as several values. */
const mostNames = 20_000;
/** Largest number of levels of arrays and objects in a body: much of what reads them is recursive. */
const mostLevels = 512;

/** Makes an app refuse bodies that are compressed, and those in JSON with too many values or levels before it parses them. */
export function limitBodies(app: FastifyInstance): void {
  app.addHook("onRequest", ({ headers }, _reply, done) => {
    const { "content-encoding": encoding = "identity" } = headers;
    if (encoding === "identity") return done();
    const text = `Expected a body that is not compressed, got the header "Content-Encoding" with ${describe(encoding)}.`;
    done(new ApiError(415, text, { code: "unsupported_content_encoding" }));
  });
  const counters = new WeakMap<FastifyRequest, JsonCounter>();
  app.addHook("preParsing", (request, _reply, payload, done) => {
    if (!request.headers["content-type"]) return done(null, payload);
    const counter = new JsonCounter();
    counters.set(request, counter);
    // Fastify begins to read in this turn of the event loop too, so that both get everything.
    payload.on("data", (part: string | Buffer) => {
      counter.push(String(part));
    });
    done(null, payload);
  });
  const parse = app.getDefaultJsonParser("error", "error");
  app.addContentTypeParser("application/json", { parseAs: "string" }, (request, body, done) => {
    const { values, names, depth } = counters.get(request)!;
    if (depth > mostLevels) {
      const text = `Expected a body whose arrays and objects are nested at most ${mostLevels} deep, got ${depth}.`;
      done(new ApiError(400, text, { code: "body_too_deep" }));
    } else if (values > mostValues || names > mostNames) {
      const wanted = `at most ${mostValues} values and ${mostNames} names`;
      done(new ApiError(413, `Expected a body with ${wanted}, got more.`, { code: "body_too_large" }));
    } else {
      // Here the work on a request begins. Many that arrive at the same time begin in different turns.
      void turnWithRoom().then(() => parse(request, body as string, done));
    }
  });
}
