export { createServer, type CreateServerOptions } from "./app.js";
export { heedServer, type ServerOptions } from "./plugin.js";
export type { RequestLimits } from "./endpoint.js";
export type { ServedEngineOptions } from "./served-models.js";
