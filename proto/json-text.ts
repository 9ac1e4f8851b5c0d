/** A number as it was written: 64-bit integers do not fit into a `number`. */
export class NumberText {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
}

export type Json = null | boolean | string | NumberText | readonly Json[] | ReadonlyMap<string, Json>

/** Deeper than any message of ours. */
const MAX_DEPTH = 32
/** Each value takes far more memory than the two bytes that it may be written in. */
const MAX_VALUES = 400_000
const MAX_NUMBER = 64

const SPACE = /[ \t\n\r]*/y
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y
const WORDS: readonly (readonly [string, null | boolean])[] = [
  ['null', null],
  ['true', true],
  ['false', false],
]

/**
 * Reads JSON more strictly than `JSON.parse`: a repeated name, text that is not Unicode, and deep nesting are errors, and numbers stay
 * as they were written.
 *
 * @throws Error that names the position and never what was found there
 * @see RFC 8259, RFC 7493 (I-JSON)
 */
export function parseJson(bytes: Uint8Array): Json {
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    throw new Error('not UTF-8')
  }
  let at = 0
  let values = 0

  function fail(what: string): never {
    throw new Error(`${what} at character ${at}`)
  }

  /** The next character that is no space. */
  function peek(): string | undefined {
    SPACE.lastIndex = at
    SPACE.test(text)
    at = SPACE.lastIndex
    return text[at]
  }

  function take(wanted: string): void {
    if (peek() !== wanted) fail(`expected "${wanted}"`)
    at += 1
  }

  /** True if another element follows, after its comma. */
  function more(first: boolean, end: string): boolean {
    if (peek() === end) {
      at += 1
      return false
    }
    if (!first) take(',')
    return true
  }

  function string(): string {
    const start = at
    for (;;) {
      at = text.indexOf('"', at + 1)
      if (at < 0) {
        at = text.length
        fail('unterminated string')
      }
      let backslashes = 0
      while (text[at - 1 - backslashes] === '\\') backslashes += 1
      if (backslashes % 2 === 0) break
    }
    at += 1
    let value: string
    try {
      value = JSON.parse(text.slice(start, at)) as string
    } catch {
      return fail('malformed string')
    }
    return value.isWellFormed() ? value : fail('string is not Unicode')
  }

  function value(depth: number): Json {
    if (depth > MAX_DEPTH) fail('nested too deeply')
    values += 1
    if (values > MAX_VALUES) fail('too many values')
    const next = peek()
    if (next === '"') return string()
    if (next === '{') {
      at += 1
      const found = new Map<string, Json>()
      while (more(found.size === 0, '}')) {
        if (peek() !== '"') fail('expected a name')
        const name = string()
        if (found.has(name)) fail('repeated name')
        take(':')
        found.set(name, value(depth + 1))
      }
      return found
    }
    if (next === '[') {
      at += 1
      const found: Json[] = []
      while (more(found.length === 0, ']')) found.push(value(depth + 1))
      return found
    }
    NUMBER.lastIndex = at
    if (NUMBER.test(text)) {
      const number = text.slice(at, NUMBER.lastIndex)
      if (number.length > MAX_NUMBER) fail('number is too long')
      at = NUMBER.lastIndex
      return new NumberText(number)
    }
    for (const [word, meaning] of WORDS) {
      if (!text.startsWith(word, at)) continue
      at += word.length
      return meaning
    }
    return fail('expected a value')
  }

  const found = value(1)
  if (peek() !== undefined) fail('expected the end')
  return found
}
