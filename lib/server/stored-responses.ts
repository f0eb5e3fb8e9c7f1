// Routes of stored responses: GET and DELETE /v1/responses/{id}, and GET /v1/responses/{id}/input_items.
import type { FastifyInstance, FastifyRequest } from "fastify";
import { describe } from "../util/errors.js";
import { ApiError } from "./api-error.js";
import type { ResponseStore, StoredResponse } from "./response-store.js";

interface ById {
  Params: { id: string };
}

interface Listing extends ById {
  Querystring: { limit?: string; order?: "asc" | "desc"; after?: string };
}

const querystring = {
  type: "object",
  properties: {
    // Nothing makes a number of it, since bodies are taken as they are.
    limit: { type: "string", pattern: "^(?:[1-9][0-9]?|100)$", maxLength: 3 },
    order: { type: "string", enum: ["asc", "desc"] },
    after: { type: "string", maxLength: 1024 },
  },
};

/** Adds the routes. `ownerOf` returns whose a request is. */
export function serveStoredResponses(
  app: FastifyInstance,
  store: ResponseStore,
  ownerOf: (request: FastifyRequest) => string | null,
): void {
  const found = (request: FastifyRequest<ById>): StoredResponse => {
    const { id } = request.params;
    const stored = store.get(ownerOf(request), id);
    if (stored) return stored;
    throw new ApiError(404, `Response with id ${describe(id)} not found.`, {
      ...{ param: "id", code: "response_not_found" },
    });
  };
  for (const [prefix, hide] of [
    ["/v1", false],
    ["", true],
  ] as const) {
    const described = (summary: string): object => (hide ? { hide } : { summary });
    app.get<ById>(
      `${prefix}/responses/:id`,
      { schema: described("Give a stored response") },
      (request) => found(request).response,
    );
    app.delete<ById>(`${prefix}/responses/:id`, { schema: described("Forget a stored response") }, (request) => {
      const { id } = found(request);
      store.delete(ownerOf(request), id);
      return { id, object: "response", deleted: true };
    });
    app.get<Listing>(
      `${prefix}/responses/:id/input_items`,
      { schema: { ...described("List the input of a stored response"), querystring } },
      (request) => {
        const { limit: given = "20", order = "desc", after } = request.query;
        const limit = Number(given);
        const { input } = found(request);
        const items = (order === "asc" ? input : input.toReversed()) as unknown as { id: string }[];
        const begin = after === undefined ? 0 : items.findIndex(({ id }) => id === after) + 1;
        if (after !== undefined && begin === 0)
          throw new ApiError(400, `after: expected the id of an item, got ${describe(after)}.`, {
            ...{ param: "after", code: "invalid_value" },
          });
        const data = items.slice(begin, begin + limit);
        return {
          ...{ object: "list", data, first_id: data[0]?.id ?? null, last_id: data.at(-1)?.id ?? null },
          has_more: begin + limit < items.length,
        };
      },
    );
  }
}
