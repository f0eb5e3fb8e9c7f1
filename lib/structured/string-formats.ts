const year = "[0-9]{4}";
const [month, day] = ["(0[1-9]|1[0-2])", "(0[1-9]|1[0-9]|2[0-8])"];
const time = "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])";
const byte = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
const label = "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?";

/** Regular expressions of texts that have the formats of JSON Schema. Days after the 28th are left out. */
export const stringFormats: Readonly<Record<string, string>> = {
  date: `^${year}-${month}-${day}$`,
  time: `^${time}$`,
  "date-time": `^${year}-${month}-${day}T${time}$`,
  uuid: "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
  ipv4: `^${byte}(\\.${byte}){3}$`,
  email: `^[a-zA-Z0-9_+-]{1,32}(\\.[a-zA-Z0-9_+-]{1,32}){0,3}@${label}(\\.${label}){1,3}$`,
  hostname: `^${label}(\\.${label}){0,3}$`,
  uri: `^https?://${label}(\\.${label}){0,3}(/[a-zA-Z0-9._~-]{0,40}){0,8}$`,
};
