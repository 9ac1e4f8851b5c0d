import type { EntryFields } from '../../src/core/entry.ts'

/** What a registration entry says besides who, below whom and by which selectors, where it says nothing special. */
export const PLAIN_ENTRY = {
  x509SvidTtlSeconds: 0,
  jwtSvidTtlSeconds: 0,
  federatesWith: [],
  admin: false,
  downstream: false,
  expiresAt: 0,
  dnsNames: [],
  storeSvid: false,
  hint: '',
  disableX509SvidPrefetch: false,
  jwtSvidIncludeJti: false,
} satisfies Omit<EntryFields, 'spiffeId' | 'parentId' | 'selectors'>
