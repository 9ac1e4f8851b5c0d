import type { Ignorer } from '@stryker-mutator/api/ignore'
import { declareValuePlugin, PluginKind } from '@stryker-mutator/api/plugin'

/** What is used of Babel's NodePath, whose types are a package of their own. */
interface Path {
  readonly type: string
  readonly node: { readonly elements?: readonly unknown[] }
  /** The source text. */
  toString(): string
}

const LOGS = /^(?:await )?[\w.#]*\b(?:log\??\.(?:debug|info|warn|error)|audit|auditRequest)\(/
const IF_LOGGED = /^if \([\w.#]*(?:audited|debugEnabled)\) /

/**
 * Leaves out what only writes logs and audit records, since nobody is let in or refused by it, and empty arrays, which Stryker
 * fills with a text where no text belongs.
 */
const ignorer: Ignorer = {
  shouldIgnore(babelPath) {
    const path = babelPath as unknown as Path
    if (path.type === 'ArrayExpression' && path.node.elements?.length === 0) return 'an empty array'
    if (path.type === 'ExpressionStatement' && LOGS.test(path.toString())) return 'writes a log'
    if (path.type === 'IfStatement' && IF_LOGGED.test(path.toString())) return 'writes a log'
    return undefined
  },
}

export const strykerPlugins = [declareValuePlugin(PluginKind.Ignore, 'insignificant', ignorer)]
