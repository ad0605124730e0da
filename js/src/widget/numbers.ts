/** A number, or words with numbers in them, with a real minus sign, as everywhere in the panel. */
export const minus = (x: number | string): string => String(x).replaceAll("-", "−");
