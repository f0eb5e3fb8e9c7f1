import type { Steps } from "../util/turns.js";
import type { Expression } from "./expression.js";
import type { SchemaCheck } from "./schema-check.js";
import type { Located, SchemaDocument } from "./schema-document.js";
import type { Language } from "./language.js";
import type { Languages } from "./text-language.js";

/** Reader of schemas, as the demands on arrays and objects need it for the schemas of their parts. */
export interface SchemaContext {
  readonly document: SchemaDocument;
  readonly check: SchemaCheck;
  /** Returns the values that match all of the schemas. */
  value(schemas: readonly Located[]): Steps<Expression>;
  /** Returns the JSON texts of the values that match all of the schemas; null if they are not few. */
  textsOf(schemas: readonly Located[]): Steps<readonly string[] | null>;
  /** Returns the texts that match all of the schemas, without quotes. */
  language(schemas: readonly Located[], make: Languages): Steps<Language>;
}
