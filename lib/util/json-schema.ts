/** A JSON schema that is an object, such as `{ type: "object", properties: { age: { type: "integer" } } }`. */
export type JsonSchema = Readonly<Record<string, unknown>>;
