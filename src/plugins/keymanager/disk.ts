import { mkdirSync, rmSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { errorMessage } from '../../core/error.ts'
import type { KeyType, Signer } from '../../core/key-type.ts'
import type { KeyManager } from '../../core/plugin.ts'
import { half, type PluginDeclaration } from '../plugin.ts'
import { requiredText, textOf } from '../plugin-data.ts'
import { replaceFile, writePrivateFile } from '../replace-file.ts'
import { generateSigner, importSigner, type MemorySigner } from '../signer.ts'

/**
 * Keys in one JSON file in SPIRE's format, `{"keys":{"<id>":"<base64 PKCS#8>"}}`, mode 0600, replaced atomically: a crash
 * leaves the old file or the new one.
 *
 * @throws Error if the file is there and is not such a file; it is left as it is
 */
export async function diskKeyManager(path: string): Promise<KeyManager> {
  const keys = await load(path)
  let writing: Promise<void> = Promise.resolve()

  async function generateKey(id: string, type: KeyType): Promise<Signer> {
    const signer = await generateSigner(type)
    const write = writing.then(async () => {
      const next = new Map(keys).set(id, signer)
      await replaceFile(path, print(next))
      keys.set(id, signer)
    })
    writing = write.catch(() => {})
    await write
    return signer
  }

  return { generateKey, getKey: async (id) => keys.get(id), getKeys: async () => keys }
}

async function load(path: string): Promise<Map<string, MemorySigner>> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return new Map()
    throw new Error(`unable to read keys file: ${errorMessage(error)}`, { cause: error })
  }
  let current = ''
  try {
    const document: unknown = JSON.parse(text)
    const entries = (document as { keys?: unknown } | null)?.keys
    if (typeof entries !== 'object' || entries === null) throw new Error('it has no "keys"')
    const keys = new Map<string, MemorySigner>()
    for (const [id, value] of Object.entries(entries)) {
      current = ` key "${id}":`
      if (typeof value !== 'string') throw new Error('it is not text')
      keys.set(id, importSigner(Buffer.from(value, 'base64')))
    }
    return keys
  } catch (error) {
    // JSON.parse quotes what it stumbled over, which may be a key.
    const reason = error instanceof SyntaxError ? 'it is not JSON' : errorMessage(error)
    throw new Error(`unable to decode keys file "${path}":${current} ${reason}`)
  }
}

function print(keys: ReadonlyMap<string, MemorySigner>): string {
  const entries = [...keys].sort(([a], [b]) => (a < b ? -1 : 1))
  const encoded = entries.map(([id, signer]) => [id, Buffer.from(signer.exportPrivateKey()).toString('base64')])
  return JSON.stringify({ keys: Object.fromEntries(encoded) }, undefined, '\t')
}

const declaration: PluginDeclaration<'KeyManager'> = {
  server: half({
    keys: ['keys_path'],
    read: (data) => resolve(requiredText(data, 'keys_path')),
    make: diskKeyManager,
  }),
  agent: half({
    keys: ['directory'],
    read(data) {
      const directory = textOf(data, 'directory')
      if (directory === '') throw new Error('directory must be configured')
      return resolve(directory)
    },
    make(directory) {
      mkdirSync(directory, { recursive: true, mode: 0o700 })
      const probe = join(directory, '.probe')
      writePrivateFile(probe, '')
      rmSync(probe)
      return diskKeyManager(join(directory, 'keys.json'))
    },
  }),
}
export default declaration
