import { HeedError } from "./errors.js";

/**
 * @internal Error of a name that stands for no model, or for none of the wanted kind. If it is only unknown whether there
 * is one, as when the hub cannot be reached, another error is thrown.
 */
export class NoSuchModelError extends HeedError {}
