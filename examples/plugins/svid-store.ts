#!/usr/bin/env node
// An SVIDStore that keeps SVIDs in a folder, a file for each entry. The entry says which: its selector is folder:name:FILE.

import { renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { requiredText, StatusError, servePlugin } from 'turret/plugin'

function fileOf(folder: string, metadata: readonly string[]): string {
  const name = metadata.find((one) => one.startsWith('name:'))?.slice('name:'.length)
  if (!name || !/^[\w-]+$/.test(name)) throw new StatusError('INVALID_ARGUMENT', 'the entry names no file')
  return join(folder, `${name}.json`)
}

await servePlugin({
  kind: 'agent/SVIDStore',

  read: ({ data }) => requiredText(data, 'folder'),

  make: (folder) => ({
    putX509Svid({ svid, metadata }) {
      if (!svid) throw new StatusError('INVALID_ARGUMENT', 'there is no SVID')
      const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64')
      const path = fileOf(folder, metadata)
      const { spiffeID, certChain, privateKey, bundle, expiresAt } = svid
      const content = {
        spiffeId: spiffeID,
        certificates: certChain.map(base64),
        privateKey: base64(privateKey),
        bundle: bundle.map(base64),
        expiresAt,
      }
      writeFileSync(`${path}.new`, JSON.stringify(content), { mode: 0o600 })
      renameSync(`${path}.new`, path)
      return {}
    },
    deleteX509Svid({ metadata }) {
      rmSync(fileOf(folder, metadata), { force: true })
      return {}
    },
  }),
})
