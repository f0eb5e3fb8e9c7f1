/**
 * Requests that other servers or their clients make and that heed refuses on purpose. docs/guides/server.md shows this
 * table (`npm run limits`), and requests.test.ts checks that exactly these requests are refused, with these answers.
 */

/** A kind of request that is refused. */
export interface RefusedRequest {
  /** Names of the recorded requests of this kind. */
  cases: readonly string[];
  /** Description of the request. */
  request: string;
  /** Status of the answer, and the code of its error. */
  answer: readonly [status: number, code: string];
  /** Reason of the refusal, and what to do instead. */
  reason: string;
}

export const refusedRequests: readonly RefusedRequest[] = [
  {
    cases: ["ordinary/chat: modalities [text, audio]"],
    request: "`modalities` with anything besides `text`",
    answer: [400, "unsupported_parameter"],
    reason: "heed reads and writes text; sound that is asked for could not be given.",
  },
  {
    cases: ["ordinary/messages: role function (old form; O)"],
    request: "messages with `function_call`, and of the role `function`",
    answer: [400, "unsupported_parameter"],
    reason: "OpenAI replaced this form by `tool_calls` and the role `tool`, which chat templates know.",
  },
  {
    cases: ["vllm/chat: a role of its own (vLLM; OpenAI refuses)"],
    request: "messages of a role of its own",
    answer: [400, "invalid_value"],
    reason: "Most chat templates drop or misread such a message. OpenAI refuses it as well.",
  },
  {
    cases: ["ordinary/wire: content-type application/vnd.api+json"],
    request: "a body of another type than `application/json`",
    answer: [415, "invalid_media_type"],
    reason: "A page of another origin may send other types without asking.",
  },
  {
    cases: ["ordinary/routes: /v1/completions by a name with the path of the model"],
    request: "`/v1/engines/MODEL/completions`",
    answer: [404, "unknown_url"],
    reason: "OpenAI has removed it. The field `model` names the model.",
  },
  {
    cases: ["ordinary/routes: /v1/messages (Anthropic; llama.cpp, vLLM)"],
    request: "`/v1/messages` of Anthropic's interface",
    answer: [404, "unknown_url"],
    reason: "heed speaks OpenAI's interface alone.",
  },
  {
    cases: ["ordinary/routes: /api/tags, /api/chat (Ollama)"],
    request: "`/api/…` of Ollama's interface",
    answer: [404, "unknown_url"],
    reason: "heed speaks OpenAI's interface alone, which Ollama's clients know, too.",
  },
  {
    cases: ["ordinary/responses: item_reference"],
    request: "items of the type `item_reference` whose item is in no stored response",
    answer: [404, "item_not_found"],
    reason: "Its text is not known. Send the item itself.",
  },
  {
    cases: ["ordinary/responses: tools web_search"],
    request: "tools that OpenAI hosts, such as `web_search`",
    answer: [400, "unsupported_parameter"],
    reason: "There is nobody who could run them.",
  },
  {
    cases: ["vllm/embedding: dimensions smaller (OpenAI's text-embedding-3, matryoshka models)"],
    request: "`dimensions` that the model was not trained for",
    answer: [400, "unsupported_parameter"],
    reason:
      "The beginning of such a vector means little. Models whose configuration names `matryoshka_dimensions` take them.",
  },
  {
    cases: ["llamacpp/embedding: empty text (llama.cpp; OpenAI refuses)"],
    request: "an empty text to embed",
    answer: [400, "invalid_value"],
    reason: "Its vector says nothing, and OpenAI refuses it as well.",
  },
  {
    cases: ["vllm/completion: best_of 2 (OpenAI)"],
    request: "`best_of` above `n`",
    answer: [400, "unsupported_parameter"],
    reason: "heed returns every answer that it computes. Ask for more with `n`.",
  },
];
