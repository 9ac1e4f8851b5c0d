#!/usr/bin/env node
// A CredentialComposer: each JWT-SVID says in which environment it was issued, each X509-SVID names it as organizational unit.

import { requiredText, servePlugin } from 'turret/plugin'

await servePlugin({
  kind: 'server/CredentialComposer',

  read: ({ data }) => requiredText(data, 'environment'),

  make: (environment) => ({
    composeWorkloadJwtSvid({ attributes }) {
      return { attributes: { claims: { ...attributes?.claims, environment } } }
    },
    composeWorkloadX509Svid({ attributes }) {
      const subject = attributes?.subject && { ...attributes.subject, organizationalUnit: [environment] }
      return { attributes: attributes && { ...attributes, subject } }
    },
    // What is absent stays as the server made it.
  }),
})
