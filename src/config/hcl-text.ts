import type { HclKey, HclNode, HclObject } from './hcl.ts'

/**
 * Writes an object as HCL 1 again, without comments and in one way, whatever the file looked like: what plugins out of process get to read.
 * JSON becomes HCL, too.
 */
export function hclText(object: HclObject): string {
  return itemsText(object, '')
}

function itemsText({ items }: HclObject, indent: string): string {
  return items
    .map(({ keys, value }) => {
      const key = keys.map(keyText).join(' ')
      const assigned = value.kind === 'object' ? ' ' : ' = '
      return `${indent}${key}${assigned}${nodeText(value, indent)}\n`
    })
    .join('')
}

function nodeText(node: HclNode, indent: string): string {
  const inner = `${indent}  `
  switch (node.kind) {
    case 'object':
      return node.items.length === 0 ? '{}' : `{\n${itemsText(node, inner)}${indent}}`
    case 'list':
      return `[${node.items.map((item) => nodeText(item, indent)).join(', ')}]`
    case 'string':
    case 'heredoc':
      return quoted(node.text)
    default:
      return node.text
  }
}

function keyText({ text, quoted: wasQuoted }: HclKey): string {
  return wasQuoted ? quoted(text) : text
}

/** Everything that means something to a reader is escaped, also what would begin an interpolation. */
function quoted(text: string): string {
  const escaped = text.replace(/["\\\p{Cc}]|\$(?=\{)/gu, (character) => {
    if (character === '"' || character === '\\') return `\\${character}`
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
  })
  return `"${escaped}"`
}
