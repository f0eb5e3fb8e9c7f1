// The formats of JSON Schema as regular expressions. Each matches texts that have the format, and those that people write:
// of a URI or an e-mail address, rare forms such as quoted local parts are left out.
const date = (() => {
  const day = (last: string): string => `(?:0[1-9]|[12][0-9]|${last})`;
  const usual = `[0-9]{4}-(?:(?:0[13578]|1[02])-${day("3[01]")}|(?:0[469]|11)-${day("30")}|02-(?:0[1-9]|1[0-9]|2[0-8]))`;
  const leap = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29";
  return `(?:${usual}|${leap})`;
})();
const time = "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])";
const duration = (() => {
  const some = "[0-9]{1,9}";
  const [seconds, minutes] = [`${some}S`, `${some}M(?:${some}S)?`];
  const clock = `T(?:${some}H(?:${minutes})?|${minutes}|${seconds})`;
  const [days, months] = [`${some}D`, `${some}M(?:${some}D)?`];
  return `P(?:${some}W|(?:${some}Y(?:${months})?|${months}|${days})(?:${clock})?|${clock})`;
})();
const byte = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
const ipv4 = `${byte}(?:\\.${byte}){3}`;
const ipv6 = (() => {
  const part = "[0-9a-fA-F]{1,4}";
  const end = `(?:${part}:${part}|${ipv4})`;
  return `(?:${[
    `(?:${part}:){6}${end}`,
    `::(?:${part}:){5}${end}`,
    `(?:${part})?::(?:${part}:){4}${end}`,
    `(?:(?:${part}:){0,1}${part})?::(?:${part}:){3}${end}`,
    `(?:(?:${part}:){0,2}${part})?::(?:${part}:){2}${end}`,
    `(?:(?:${part}:){0,3}${part})?::${part}:${end}`,
    `(?:(?:${part}:){0,4}${part})?::${end}`,
    `(?:(?:${part}:){0,5}${part})?::${part}`,
    `(?:(?:${part}:){0,6}${part})?::`,
  ].join("|")})`;
})();
/** A label of at most 63 characters. The third and the fourth are not both dashes: that is for encoded labels. */
const label = (() => {
  const [one, dashed] = ["[a-zA-Z0-9]", "[a-zA-Z0-9-]"];
  const long = (most: number): string =>
    `${one}(?:${dashed}?${one}|${dashed}{2}${one}|${dashed}(?:${one}${dashed}|-${one})${dashed}{0,${most - 5}}${one})?`;
  return { long: long(63), short: long(20) };
})();
/** A name of at most 253 characters. */
const hostname = `${label.long}(?:\\.${label.long}){0,2}(?:\\.${label.short}){0,2}`;

/** Returns the formats that may be long: with limits, since a model could write them forever, or without. */
function longFormats(limited: boolean): Readonly<Record<string, string>> {
  const times = (least: number, most: number): string => (limited ? `{${least},${most}}` : `{${least},}`);
  const email = (() => {
    const letter = "[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]";
    if (!limited) {
      const part = "[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?";
      return `${letter}+(?:\\.${letter}+)*@${part}(?:\\.${part})+`;
    }
    // A local part has at most 64 characters.
    const words = [[64], [30, 33], [20, 20, 20]].map((sizes) =>
      sizes.map((most) => `${letter}{1,${most}}`).join("\\."),
    );
    return `(?:${words.join("|")})@${label.long}(?:\\.${label.long}){1,2}(?:\\.${label.short})?`;
  })();
  const character = (of: string): string => `(?:[${of}]|%[0-9a-fA-F]{2})`;
  const [plain, colon] = ["-a-zA-Z0-9._~!$&'()*+,;=@", ":"];
  const letter = character(plain + colon);
  const text = `(?:[${plain}:/?]|%[0-9a-fA-F]{2})${times(0, 2000)}`;
  const end = `(?:\\?${text})?(?:#${text})?`;
  const user = `(?:${character(plain.replace("@", "") + colon)}${times(1, 60)}@)?`;
  const authority = `${user}(?:${hostname}|\\[${ipv6}\\])(?::[0-9]{1,5})?`;
  const path = `(?:/${letter}${times(0, 200)})${times(0, 50)}`;
  const rootless = `${letter}${times(1, 200)}${path}`;
  const absolute = `/(?:${rootless})?`;
  const uri = `[a-zA-Z][a-zA-Z0-9+.-]{0,20}:(?://${authority}${path}|${absolute}|${rootless})${end}`;
  const relative = `(?://${authority}${path}|${absolute}|${character(plain)}${times(1, 200)}${path})?${end}`;
  const reference = `(?:${uri}|${relative})`;
  const pointer = `(?:/(?:[^~/]|~[01])${times(0, 200)})${times(0, 50)}`;
  const name = `[a-zA-Z0-9_]${times(1, 40)}`;
  const variables = `\\{[+#./;?&]?${name}\\*?(?:,${name}\\*?)${times(0, 10)}\\}`;
  return {
    ...{ email, "idn-email": email, uri, iri: uri, "uri-reference": reference, "iri-reference": reference },
    "uri-template": `(?:${character(`${plain}:/?#`)}|${variables})${times(0, 500)}`,
    "json-pointer": pointer,
    "relative-json-pointer": `(?:0|[1-9][0-9]{0,5})(?:#|${pointer})`,
  };
}

/** Regular expressions of texts that have the formats. */
export const knownFormats: Readonly<Record<string, string>> = {
  ...{ date, time, "date-time": `${date}T${time}`, duration },
  uuid: "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}",
  ...{ ipv4, ipv6, hostname, "idn-hostname": hostname },
  ...longFormats(true),
};

/** Regular expressions for strings that other keywords limit, too: together with limits of their own they would be too large. */
export const patternedFormats: Readonly<Record<string, string>> = { ...knownFormats, ...longFormats(false) };

/** Formats that JSON Schema defines and heed cannot enforce. */
export const unsupportedFormats: ReadonlySet<string> = new Set(["regex"]);
