/**
 * A text of somebody else as a terminal may be shown it: control characters, which could move the cursor, colour what follows or type in
 * its place, become visible. Lines and tabs stay.
 */
export function printable(text: string): string {
  return text.replace(CONTROL, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`)
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the ones.
const CONTROL = /[\x00-\x08\x0b-\x1f\x7f-\x9f]/g
