import { readFileSync, statSync } from 'node:fs'
import { resolve } from 'node:path'
import type { PlainObject } from '../../../config/plain.ts'
import { errorMessage } from '../../../core/error.ts'
import type { Log } from '../../../core/log.ts'
import { half, type PluginDeclaration } from '../../plugin.ts'
import { objectOf, textOf } from '../../plugin-data.ts'
import { importSigner } from '../../signer.ts'

interface KekSource {
  readonly version: string
  /** One of the two is empty. */
  readonly variable: string
  readonly file: string
}

const declaration: PluginDeclaration<'KeyManager'> = {
  server: half({
    keys: ['kek_version', 'kek_env', 'kek_file', 'previous.*.kek_env', 'previous.*.kek_file'],
    read: readKekSources,
    async make(sources, { trustDomain, keys, env, log }) {
      const { databaseKeyManager, parseKek } = await import('./database.ts')
      const keks = sources.map(({ version, variable, file }) => {
        const text = variable === '' ? readKek(file, log) : env[variable]
        if (!text) throw new Error(`the environment variable ${variable} is not set`)
        try {
          return { version, key: parseKek(text) }
        } catch (error) {
          throw new Error(`version "${version}" from ${variable || JSON.stringify(file)}: ${errorMessage(error)}`)
        }
      })
      const importKey = (pkcs8: Uint8Array) => {
        // node:crypto signs at once; what it is given here is not to be exported again.
        const { keyType, publicKey, sign } = importSigner(pkcs8)
        return { keyType, publicKey, sign }
      }
      return databaseKeyManager({ trustDomain, keys, keks, importKey })
    },
  }),
}
export default declaration

/**
 * Where the key-encryption keys are, the newest first.
 * @throws Error if a source is missing or given twice, or a key is not known
 */
function readKekSources(data: PlainObject): readonly KekSource[] {
  const previous = data.previous === undefined ? {} : objectOf(data.previous)
  const newest = kekSource(textOf(data, 'kek_version') || '1', data, ['kek_version', 'previous'])
  return [newest, ...Object.entries(previous).map(([version, block]) => kekSource(version, objectOf(block), []))]
}

function kekSource(version: string, data: PlainObject, others: readonly string[]): KekSource {
  for (const key of Object.keys(data)) {
    if (key !== 'kek_env' && key !== 'kek_file' && !others.includes(key)) throw new Error(`unknown key "${key}"`)
  }
  const [variable, file] = [textOf(data, 'kek_env'), textOf(data, 'kek_file')]
  if ((variable === '') === (file === '')) {
    throw new Error(`exactly one of kek_env and kek_file must be configured for version "${version}"`)
  }
  return { version, variable, file: file === '' ? '' : resolve(file) }
}

function readKek(file: string, log: Log): string {
  if ((statSync(file).mode & 0o007) !== 0) log.warn('The key-encryption key can be read by everybody', { path: file })
  return readFileSync(file, 'utf8')
}
