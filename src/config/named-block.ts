import { decodeObject, type Fields, merged } from './decode.ts'
import { ConfigError, type HclItem } from './hcl.ts'

/** Where the blocks with names lie. */
export const HTTP_PATH = 'root.server.experimental.http'

/** Reads `<kind> "<name>" { }` below `experimental.http`. @throws ConfigError for keys that are none of these */
export function readNamed<F extends Fields>(item: HclItem, kind: string, wanted: F) {
  const name = item.keys[0]!.text
  const path = `${HTTP_PATH}.${kind}.${name}`
  const where = `experimental.http.${kind} ${JSON.stringify(name)}`
  const unknown: string[] = []
  const fields = decodeObject(merged([item], path), wanted, { path, unknown: (_, keys) => unknown.push(...keys) })
  if (unknown.length > 0) throw new ConfigError(`${where}: unknown key ${JSON.stringify(unknown[0])}`)
  return { name, path, where, fields }
}
