// Colours of numbers. Cividis (Nuñez et al. 2018, doi:10.1371/journal.pone.0199239) rises evenly in lightness, and looks
// alike to people who do and who do not tell red from green.

/** Colours of cividis at equal distances, as red, green and blue. */
const stops: readonly (readonly [number, number, number])[] = [
  [0, 34, 78],
  [18, 53, 112],
  [59, 73, 108],
  [87, 93, 109],
  [112, 113, 115],
  [138, 134, 120],
  [165, 156, 116],
  [195, 179, 105],
  [225, 204, 85],
  [254, 232, 56],
];

/** Colours of the 256 codes of a table, as the bytes of pixels: red, green, blue and 255. */
const pixels = new Uint8ClampedArray(256 * 4);
for (let code = 0; code < 256; code++) {
  const place = (code / 255) * (stops.length - 1);
  const low = Math.min(stops.length - 2, Math.floor(place));
  for (let channel = 0; channel < 3; channel++) {
    const [a, b] = [stops[low]![channel]!, stops[low + 1]![channel]!];
    pixels[code * 4 + channel] = a + (b - a) * (place - low);
  }
  pixels[code * 4 + 3] = 255;
}

/** Copies the colour of a code, from 0 to 255, to the pixel at an index. */
export function putPixel(image: Uint8ClampedArray, index: number, code: number): void {
  for (let channel = 0; channel < 4; channel++) image[index * 4 + channel] = pixels[code * 4 + channel]!;
}

/** Returns the colour of a share from 0 to 1, and black or white, whichever can be read on it. */
export function shade(share: number): { cell: string; ink: string } {
  const code = Math.round(255 * Math.min(1, Math.max(0, share)));
  const [red, green, blue] = [0, 1, 2].map((channel) => pixels[code * 4 + channel]!) as [number, number, number];
  const isLight = 0.2126 * red + 0.7152 * green + 0.0722 * blue > 115;
  return { cell: `rgb(${red} ${green} ${blue})`, ink: isLight ? "#000" : "#fff" };
}

/** Returns the whole scale as the background of a legend. */
export function gradient(): string {
  return `linear-gradient(to right, ${stops.map((rgb) => `rgb(${rgb.join(" ")})`).join(", ")})`;
}
