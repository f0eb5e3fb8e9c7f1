/** ajv as the judge of texts: with the draft that a schema names, and with the formats that heed follows. */
import ajvDraft4 from "ajv-draft-04";
import { Ajv, type ValidateFunction } from "ajv";
import { Ajv2019 } from "ajv/dist/2019.js";
import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats, { type FormatName } from "ajv-formats";
import { knownFormats } from "../../lib/structured/string-formats.js";

const formats = Object.keys(knownFormats).filter((name) => !/^(?:idn|iri)/.test(name)) as FormatName[];

const follow = addFormats.default as (ajv: object, formats: FormatName[]) => unknown;

/** Returns ajv's function for a schema; null if ajv cannot read it. */
export function ajvOf(schema: object): ValidateFunction | null {
  const { $schema = "" } = schema as { $schema?: string };
  const options = { strict: false, logger: false, validateSchema: false } as const;
  const make = (unicodeRegExp: boolean): ValidateFunction => {
    const given = { ...options, unicodeRegExp };
    const Draft4 = ajvDraft4.default;
    const ajv = /draft-0[34]/.test($schema)
      ? new Draft4(given)
      : /draft-0[67]/.test($schema)
        ? new Ajv(given)
        : $schema.includes("2019")
          ? new Ajv2019(given)
          : new Ajv2020(given);
    follow(ajv, formats);
    // ajv reads quotients from 1e21 on as texts, up to their exponent.
    ajv.removeKeyword("multipleOf").addKeyword({
      ...{ keyword: "multipleOf", type: "number", schemaType: "number" },
      validate: (unit: number, x: number) => (Number.isInteger(unit) ? x % unit === 0 : Number.isInteger(x / unit)),
    });
    return ajv.compile(schema);
  };
  for (const unicode of [true, false])
    try {
      return make(unicode);
    } catch {
      // It has an expression that only the other syntax allows, or is no schema.
    }
  return null;
}
