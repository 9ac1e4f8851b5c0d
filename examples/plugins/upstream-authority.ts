#!/usr/bin/env node
// An UpstreamAuthority that has the server's CA signed by a program: openssl.

import { execFile } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { requiredText, servePlugin } from 'turret/plugin'

const EXTENSIONS = fileURLToPath(new URL('upstream-authority.cnf', import.meta.url))

await servePlugin({
  kind: 'server/UpstreamAuthority',

  read: ({ data }) => ({ certificate: requiredText(data, 'cert_path'), key: requiredText(data, 'key_path') }),

  make: ({ certificate, key }, { log }) => ({
    async *mintX509CaAndSubscribe({ csr, preferredTtl }) {
      const days = String(Math.max(1, Math.ceil(preferredTtl / 86400)))
      const ca = ['-CA', certificate, '-CAkey', key, '-copy_extensions', 'copy', '-extfile', EXTENSIONS]
      const signing = promisify(execFile)('openssl', ['x509', '-req', '-inform', 'DER', '-days', days, ...ca])
      signing.child.stdin?.end(csr)
      const { raw, subject } = new X509Certificate((await signing).stdout)
      const root = new X509Certificate(await readFile(certificate))
      log.info('CA signed', { subject })
      yield {
        x509CaChain: [{ asn1: raw, tainted: false }],
        upstreamX509Roots: [{ asn1: root.raw, tainted: false }],
      }
    },
  }),
})
