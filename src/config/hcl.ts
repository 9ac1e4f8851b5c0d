import { errorMessage } from '../core/error.ts'

/** Where something stands in a file; both count from 1. */
export interface Position {
  readonly line: number
  readonly column: number
}

export type HclNode = HclLiteral | HclList | HclObject

export interface HclLiteral {
  readonly kind: 'string' | 'number' | 'float' | 'bool' | 'heredoc'
  /** What it stands for: unescaped text of strings, the source text of numbers and booleans. */
  readonly text: string
  readonly position: Position
}

export interface HclList {
  readonly kind: 'list'
  readonly items: readonly HclNode[]
  readonly position: Position
}

export interface HclObject {
  readonly kind: 'object'
  readonly items: readonly HclItem[]
  readonly position: Position
}

/** `key = value`, `key { }` or `key "label" { }`. */
export interface HclItem {
  readonly keys: readonly HclKey[]
  readonly value: HclNode
}

export interface HclKey {
  readonly text: string
  readonly quoted: boolean
  readonly position: Position
}

/** A configuration that cannot be used; the message is for the operator. */
export class ConfigError extends Error {}

/** Parses a part of a configuration. @throws ConfigError that says what it was parsed for, if anything */
export function prefixed<T>(message: string, parse: () => T): T {
  try {
    return parse()
  } catch (error) {
    throw new ConfigError(`${message === '' ? '' : `${message}: `}${errorMessage(error)}`)
  }
}

/** Syntax errors start with the place, `At 3:2: `. */
export function configErrorAt(position: Position, message: string): ConfigError {
  return new ConfigError(`At ${position.line}:${position.column}: ${message}`)
}

const MAX_BYTES = 1024 * 1024
const MAX_DEPTH = 64

/**
 * Reads HCL 1, or JSON if the first character that is not blank is `{`.
 *
 * @returns the object of the whole file
 * @throws ConfigError with the place
 * @see cli-and-config.md 5
 */
export function parseHcl(text: string): HclObject {
  if (text.length > MAX_BYTES) throw new ConfigError('configuration is larger than 1 MiB')
  const json = /^\s*\{/.test(text)
  return new Parser(new Scanner(text, json), json).file()
}

type TokenType =
  | 'EOF'
  | 'ILLEGAL'
  | 'IDENT'
  | 'NUMBER'
  | 'FLOAT'
  | 'BOOL'
  | 'STRING'
  | 'HEREDOC'
  | 'LBRACK'
  | 'LBRACE'
  | 'COMMA'
  | 'PERIOD'
  | 'RBRACK'
  | 'RBRACE'
  | 'ASSIGN'
  | 'ADD'
  | 'SUB'
  | 'COLON'

interface Token {
  readonly type: TokenType
  readonly text: string
  readonly position: Position
}

const PUNCTUATION: Readonly<Record<string, TokenType>> = {
  '[': 'LBRACK',
  '{': 'LBRACE',
  ',': 'COMMA',
  '.': 'PERIOD',
  ']': 'RBRACK',
  '}': 'RBRACE',
  '=': 'ASSIGN',
  '+': 'ADD',
  '-': 'SUB',
  ':': 'COLON',
}

class Scanner {
  readonly #text: string
  readonly #json: boolean
  #offset = 0
  #line = 1
  #lineStart = 0

  constructor(text: string, json: boolean) {
    this.#text = text.startsWith('\ufeff') ? text.slice(1) : text
    this.#json = json
  }

  next(): Token {
    this.#skipBlanks()
    const position = this.#position()
    const char = this.#text[this.#offset]
    if (char === undefined) return { type: 'EOF', text: '', position }
    if (char === '"') return { type: 'STRING', text: this.#string(), position }
    if (!this.#json && char === '<' && this.#text[this.#offset + 1] === '<')
      return { type: 'HEREDOC', text: this.#heredoc(), position }
    const rest = this.#text.slice(this.#offset, this.#offset + 512)
    const number = /^-?(?:0[xX][0-9a-fA-F]+|\d+(\.\d+)?([eE][+-]?\d+)?)/.exec(rest)
    if (number) {
      this.#offset += number[0].length
      if (/^-?0\d*[89]\d*$/.test(number[0])) throw configErrorAt(this.#position(), 'illegal octal number')
      return {
        type: number[1] !== undefined || number[2] !== undefined ? 'FLOAT' : 'NUMBER',
        text: number[0],
        position,
      }
    }
    const word = /^[\p{L}_][\p{L}\p{N}_.-]*/u.exec(rest)
    if (word) {
      this.#offset += word[0].length
      return { type: word[0] === 'true' || word[0] === 'false' ? 'BOOL' : 'IDENT', text: word[0], position }
    }
    const type = PUNCTUATION[char]
    if (type && (type !== 'COLON' || this.#json)) {
      this.#offset += 1
      return { type, text: char, position }
    }
    if (char === '\0') throw configErrorAt(position, 'unexpected null character (0x00)')
    // `/` and `@` are what Go's scanner takes for the begin of a comment.
    throw configErrorAt(position, char === '/' || char === '@' ? "expected '/' for comment" : 'illegal char')
  }

  /** Moves to an offset on a line further down. */
  #moveTo(offset: number): void {
    while (this.#offset < offset) {
      const isNewline = this.#text[this.#offset] === '\n'
      this.#offset += 1
      if (isNewline) this.#newline()
    }
  }

  #position(): Position {
    return { line: this.#line, column: this.#offset - this.#lineStart + 1 }
  }

  #newline(): void {
    this.#line += 1
    this.#lineStart = this.#offset
  }

  #skipBlanks(): void {
    for (;;) {
      const char = this.#text[this.#offset]
      const two = this.#text.slice(this.#offset, this.#offset + 2)
      if (char === '\n') {
        this.#offset += 1
        this.#newline()
      } else if (char === ' ' || char === '\t' || char === '\r') this.#offset += 1
      else if (!this.#json && (char === '#' || two === '//')) {
        const end = this.#text.indexOf('\n', this.#offset)
        this.#offset = end < 0 ? this.#text.length : end
      } else if (!this.#json && two === '/*') {
        const end = this.#text.indexOf('*/', this.#offset + 2)
        this.#moveTo(end < 0 ? this.#text.length : end + 2)
        if (end < 0) throw configErrorAt(this.#position(), 'comment not terminated')
      } else return
    }
  }

  #string(): string {
    let value = ''
    let braces = 0
    this.#offset += 1
    for (;;) {
      const char = this.#text[this.#offset]
      if (char === undefined || (char === '\n' && braces === 0))
        throw configErrorAt(this.#position(), 'literal not terminated')
      if (char === '"' && braces === 0) break
      if (!this.#json && char === '$' && this.#text[this.#offset + 1] === '{') {
        braces += 1
        value += '${'
        this.#offset += 2
        continue
      }
      if (braces > 0) {
        if (char === '{') braces += 1
        if (char === '}') braces -= 1
        value += char
        this.#offset += 1
        if (char === '\n') this.#newline()
        continue
      }
      if (char === '\\') value += this.#escape()
      else {
        value += char
        this.#offset += 1
      }
    }
    this.#offset += 1
    return value
  }

  #escape(): string {
    const rest = this.#text.slice(this.#offset, this.#offset + 10)
    const match = /^\\(?:([abfnrtv"\\/])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3}))/.exec(rest)
    if (!match) {
      const digits = /^\\(?:[xuU]?[0-9a-fA-F]*)/.exec(rest)![0].length
      this.#offset += Math.max(digits, 1)
      throw configErrorAt(this.#position(), 'illegal char escape')
    }
    this.#offset += match[0].length
    const [, simple, x, u, long, octal] = match
    if (simple !== undefined) return ESCAPES[simple]!
    const code = octal === undefined ? Number.parseInt((x ?? u ?? long)!, 16) : Number.parseInt(octal, 8)
    if (code > 0x10ffff) throw configErrorAt(this.#position(), 'illegal char escape')
    return String.fromCodePoint(code)
  }

  #heredoc(): string {
    const head = /^<<(-?)([\p{L}\p{N}_]+)\r?\n/u.exec(this.#text.slice(this.#offset, this.#offset + 512))
    if (!head) {
      this.#offset += /^<<-?[\p{L}\p{N}_]*/u.exec(this.#text.slice(this.#offset, this.#offset + 512))![0].length
      const isEnd = this.#offset >= this.#text.length
      throw configErrorAt(this.#position(), isEnd ? 'heredoc not terminated' : 'invalid characters in heredoc anchor')
    }
    const [whole, indented, anchor] = head
    this.#offset += whole.length
    this.#newline()
    const lines: string[] = []
    for (;;) {
      const end = this.#text.indexOf('\n', this.#offset)
      const line = this.#text.slice(this.#offset, end < 0 ? undefined : end).replace(/\r$/, '')
      if (line.trim() === anchor) {
        this.#offset = end < 0 ? this.#text.length : end
        break
      }
      if (end < 0) {
        this.#offset = this.#text.length
        throw configErrorAt(this.#position(), 'heredoc not terminated')
      }
      lines.push(line)
      this.#offset = end + 1
      this.#newline()
    }
    const indent = indented === '-' ? commonIndent(lines) : 0
    return lines.map((line) => `${line.slice(indent)}\n`).join('')
  }
}

const ESCAPES: Readonly<Record<string, string>> = {
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
  '"': '"',
  '\\': '\\',
  '/': '/',
}

function commonIndent(lines: readonly string[]): number {
  return Math.min(...lines.filter((line) => line.trim() !== '').map((line) => /^[ \t]*/.exec(line)![0].length), 1024)
}

class Parser {
  readonly #scanner: Scanner
  readonly #json: boolean
  #token: Token
  #depth = 0

  constructor(scanner: Scanner, json: boolean) {
    this.#scanner = scanner
    this.#json = json
    this.#token = scanner.next()
  }

  file(): HclObject {
    const { position } = this.#token
    if (this.#json) {
      const object = this.#object()
      if (this.#token.type !== 'EOF')
        throw configErrorAt(this.#token.position, `expected EOF received: ${this.#token.type}`)
      return object
    }
    const items: HclItem[] = []
    while (this.#token.type !== 'EOF') {
      items.push(this.#item())
      if (this.#token.type === 'COMMA') this.#advance()
    }
    return { kind: 'object', items, position }
  }

  #advance(): Token {
    const token = this.#token
    this.#token = this.#scanner.next()
    return token
  }

  #item(): HclItem {
    const keys = this.#keys()
    if (this.#token.type === 'LBRACE' && !this.#json) return { keys, value: this.#object() }
    this.#advance()
    return { keys, value: this.#value() }
  }

  /** Leaves the token at the assignment or the brace. */
  #keys(): HclKey[] {
    const keys: HclKey[] = []
    for (;;) {
      const { type, text, position } = this.#token
      if (this.#json) {
        if (type === 'COLON' && keys.length === 1) return keys
        if (type !== 'STRING' || keys.length > 0) throw configErrorAt(position, `expected: STRING got: ${type}`)
        keys.push({ text, quoted: true, position })
        this.#advance()
        continue
      }
      switch (type) {
        case 'ASSIGN':
          if (keys.length === 0) throw configErrorAt(position, 'no object keys found!')
          if (keys.length > 1) throw configErrorAt(position, 'nested object expected: LBRACE got: ASSIGN')
          return keys
        case 'LBRACE':
          if (keys.length === 0) throw configErrorAt(position, 'expected: IDENT | STRING got: LBRACE')
          return keys
        case 'IDENT':
        case 'STRING':
          keys.push({ text, quoted: type === 'STRING', position })
          this.#advance()
          break
        case 'EOF':
          if (keys.length === 0) throw this.#unclosed()
          throw keyWithoutValue(keys, position)
        default:
          if (type === 'RBRACE' && keys.length > 0) throw keyWithoutValue(keys, position)
          throw configErrorAt(position, `expected: IDENT | STRING | ASSIGN | LBRACE got: ${type}`)
      }
    }
  }

  #value(): HclNode {
    const { type, text, position } = this.#token
    switch (type) {
      case 'STRING':
      case 'NUMBER':
      case 'FLOAT':
      case 'BOOL':
      case 'HEREDOC':
        this.#advance()
        return { kind: type.toLowerCase() as HclLiteral['kind'], text, position }
      case 'IDENT':
        if (this.#json && text === 'null') {
          this.#advance()
          return { kind: 'string', text: '', position }
        }
        break
      case 'LBRACE':
        return this.#object()
      case 'LBRACK':
        return this.#list()
      case 'EOF':
        if (this.#depth > 0) throw this.#unclosed()
    }
    throw configErrorAt(position, `Unknown token: ${position.line}:${position.column} ${type} ${text}`)
  }

  #object(): HclObject {
    const { position } = this.#advance()
    this.#enter(position)
    const items: HclItem[] = []
    while (this.#token.type !== 'RBRACE') {
      if (this.#token.type === 'EOF') throw this.#unclosed()
      items.push(this.#item())
      if (this.#token.type === 'COMMA') {
        this.#advance()
      } else if (this.#json && (this.#token.type as TokenType) !== 'RBRACE') {
        throw configErrorAt(this.#token.position, `object expected closing RBRACE got: ${this.#token.type}`)
      }
    }
    this.#advance()
    this.#depth -= 1
    return { kind: 'object', items, position }
  }

  #list(): HclList {
    const { position } = this.#advance()
    this.#enter(position)
    const items: HclNode[] = []
    while (this.#token.type !== 'RBRACK') {
      const { type } = this.#token
      if (type === 'EOF' || type === 'RBRACE' || type === 'COMMA' || type === 'ASSIGN') {
        throw configErrorAt(this.#token.position, `unexpected token while parsing list: ${type}`)
      }
      items.push(this.#value())
      const after = this.#token.type as TokenType
      if (after === 'COMMA') this.#advance()
      else if (after !== 'RBRACK') {
        throw configErrorAt(this.#token.position, `error parsing list, expected comma or list end, got: ${after}`)
      }
    }
    this.#advance()
    this.#depth -= 1
    return { kind: 'list', items, position }
  }

  /** An object that the end of the file cuts off: Go's scanner stands one further by then. */
  #unclosed(): ConfigError {
    const { line, column } = this.#token.position
    return configErrorAt({ line, column: column + 1 }, 'object expected closing RBRACE got: EOF')
  }

  #enter(position: Position): void {
    this.#depth += 1
    if (this.#depth > MAX_DEPTH) throw configErrorAt(position, 'nested too deeply')
  }
}

function keyWithoutValue(keys: readonly HclKey[], position: Position): ConfigError {
  const names = keys.map(({ text, quoted }) => (quoted ? JSON.stringify(text) : text)).join(' ')
  return configErrorAt(position, `key '${names}' expected start of object ('{') or assignment ('=')`)
}
