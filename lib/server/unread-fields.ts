// Fields of bodies that nobody reads: clients of other servers send fields of theirs, and most of them lose nothing.
import type { FastifyReply, FastifyRequest } from "fastify";

/** Largest number of names that are told apart in the log. */
const mostNames = 1000;

/** Tells clients, and once the log, which fields are ignored. */
export class UnreadFields {
  readonly #ofBody = new WeakMap<object, readonly string[]>();
  readonly #logged = new Set<string>();

  /** Keeps the names of a body's fields that are ignored. */
  note(body: object, names: readonly string[]): void {
    if (names.length > 0) this.#ofBody.set(body, names);
  }

  /** Writes the names of the ignored fields to the header x-heed-ignored, and to the log if they are new. */
  tell(request: FastifyRequest, reply: FastifyReply): void {
    const names = this.#ofBody.get(request.body as object);
    if (!names) return;
    reply.header("x-heed-ignored", names.map(headerText).join(", "));
    for (const name of names) {
      if (this.#logged.has(name) || this.#logged.size >= mostNames) continue;
      this.#logged.add(name);
      request.log.warn({ field: name }, "a field that heed does not know is ignored");
    }
  }
}

/** Returns a name as a header may have it: other characters than those of ordinary names are escaped as in addresses. */
function headerText(name: string): string {
  return name.toWellFormed().replaceAll(/[^\w.$[\]-]/gu, encodeURIComponent);
}
