import type { Ignorer } from '@stryker-mutator/api/ignore'
import { declareValuePlugin, PluginKind } from '@stryker-mutator/api/plugin'

/** What is used of Babel's NodePath, whose types are a package of their own. */
interface Path {
  readonly type: string
  readonly node: { readonly elements?: readonly unknown[] }
  get(member: string): { toString(): string }
}

/**
 * Leaves out calls that only write logs and audit records, since nobody is let in or refused by them, and empty arrays, which Stryker
 * fills with a text where no text belongs.
 */
const ignorer: Ignorer = {
  shouldIgnore(babelPath) {
    const path = babelPath as unknown as Path
    if (path.type === 'ArrayExpression') return path.node.elements?.length === 0 ? 'an empty array' : undefined
    if (path.type !== 'CallExpression' && path.type !== 'OptionalCallExpression') return undefined
    const callee = path.get('callee').toString()
    return /(?:^|\.)(?:log\??\.(?:debug|info|warn|error)|audit|auditRequest)$/.test(callee) ? 'writes a log' : undefined
  },
}

export const strykerPlugins = [declareValuePlugin(PluginKind.Ignore, 'insignificant', ignorer)]
