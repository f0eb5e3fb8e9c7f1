import { shortened } from "../util/errors.js";

/**
 * Returns a place for a message, such as "schema at #/properties/name": long names in it are shortened, and so is a long
 * way to it. It is called when the message is made, because most places are never named.
 */
export function placeName(place: string): string {
  const names = place.split("/").map((name) => shortened(name, 60));
  return shortened(names.join("/"), 200);
}
