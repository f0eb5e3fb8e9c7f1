// Bodies of requests. JSON is parsed and checked in one turn of the event loop, and how long that takes depends on the
// number of values more than on the number of bytes. So the values are counted first, which is fast.
import type { FastifyInstance } from "fastify";
import { ApiError } from "./api-error.js";

/** Largest number of values in a body: the tokens of a long prompt, with room. */
const mostValues = 200_000;
/** Largest number of names in a body, each of which takes as long as several values. */
const mostNames = 20_000;

/** Makes an app refuse bodies that are compressed, and those in JSON with too many values before it parses them. */
export function limitBodies(app: FastifyInstance): void {
  app.addHook("onRequest", ({ headers }, _reply, done) => {
    const { "content-encoding": encoding = "identity" } = headers;
    if (encoding === "identity") return done();
    const text = `Expected a body that is not compressed, got the header "Content-Encoding: ${encoding}".`;
    done(new ApiError(415, text, { code: "unsupported_content_encoding" }));
  });
  const parse = app.getDefaultJsonParser("error", "error");
  app.addContentTypeParser("application/json", { parseAs: "string" }, (request, body, done) => {
    const text = body as string;
    // A value and a name take at least two characters each.
    if (text.length > 2 * mostNames && isCrowded(text)) {
      const wanted = `at most ${mostValues} values and ${mostNames} names`;
      done(new ApiError(413, `Expected a body with ${wanted}, got more.`, { code: "body_too_large" }));
    } else void parse(request, text, done);
  });
}

/** Returns true if a JSON text has too many values or names. */
function isCrowded(text: string): boolean {
  let values = 0;
  let names = 0;
  for (let i = 0; i < text.length; i++)
    switch (text.charCodeAt(i)) {
      case 0x22: // "
        i = endOfString(text, i);
        break;
      case 0x2c: // ,
      case 0x5b: // [
      case 0x7b: // {
        values++;
        break;
      case 0x3a: // :
        names++;
    }
  return values > mostValues || names > mostNames;
}

/** Returns the index of the quotation mark that ends the string that begins at an index. */
function endOfString(text: string, start: number): number {
  for (let end = text.indexOf('"', start + 1); end !== -1; end = text.indexOf('"', end + 1)) {
    let escapes = 0;
    while (text.charCodeAt(end - 1 - escapes) === 0x5c) escapes++;
    if (escapes % 2 === 0) return end;
  }
  return text.length;
}
