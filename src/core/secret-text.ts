/**
 * Compares texts of which one is a secret, or stands for one: looks at all characters of what was found, whatever they are.
 * Only how long the texts are can be told by the time it takes.
 */
export function equalSecret(known: string, found: string): boolean {
  let difference = known.length ^ found.length
  for (let index = 0; index < found.length; index++) difference |= known.charCodeAt(index) ^ found.charCodeAt(index)
  return difference === 0
}
