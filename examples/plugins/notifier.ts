#!/usr/bin/env node
// A Notifier that keeps the trust domain's roots in a PEM file, for whoever reads files.

import { renameSync, writeFileSync } from 'node:fs'
import { requiredText, servePlugin } from 'turret/plugin'

await servePlugin({
  kind: 'server/Notifier',

  read: ({ data }) => requiredText(data, 'path'),

  make(path, { log }) {
    const keep = (roots: readonly { readonly asn1: Uint8Array }[] = []): void => {
      const pem = roots.map(({ asn1 }) => {
        const lines =
          Buffer.from(asn1)
            .toString('base64')
            .match(/.{1,64}/g) ?? []
        return ['-----BEGIN CERTIFICATE-----', ...lines, '-----END CERTIFICATE-----', ''].join('\n')
      })
      writeFileSync(`${path}.new`, pem.join(''))
      renameSync(`${path}.new`, path)
      log.info('Roots written', { path, count: roots.length })
    }
    return {
      // At the start, before anybody is served: an error ends the server.
      notifyAndAdvise({ bundleLoaded }) {
        keep(bundleLoaded?.bundle?.x509Authorities)
        return {}
      },
      notify({ bundleUpdated }) {
        keep(bundleUpdated?.bundle?.x509Authorities)
        return {}
      },
    }
  },
})
