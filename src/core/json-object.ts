/**
 * Parses JSON in which no object has a member twice: two readers that take another one of the two would be told different things.
 * @throws SyntaxError
 * @see RFC 7515 4, RFC 7519 4
 */
export function parseJson(text: string): unknown {
  const value: unknown = JSON.parse(text)
  if (membersIn(value) !== colonsIn(text)) throw new SyntaxError('json: duplicate key in object')
  return value
}

/** Members of all objects in a value. */
function membersIn(value: unknown): number {
  let count = 0
  const seen = [value]
  // Also walks over what is added meanwhile; recursion would leave the depth to the sender.
  for (const item of seen) {
    if (typeof item !== 'object' || item === null) continue
    const inner: readonly unknown[] = Object.values(item)
    if (!Array.isArray(item)) count += inner.length
    for (const one of inner) seen.push(one)
  }
  return count
}

/** Members that a valid JSON text writes down: colons outside of texts. */
function colonsIn(json: string): number {
  return json.replace(/"[^"\\]*(?:\\.[^"\\]*)*"/g, '').split(':').length - 1
}

/** Whether a value that was parsed from JSON is an object, and no list. */
export function isJsonObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
