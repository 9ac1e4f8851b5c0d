import { expect, test } from 'vitest'
import { memoryUses } from '../../test/support/memory-uses.ts'
import { TD, testServer } from '../../test/support/server.ts'
import { makeCertificate } from '../../test/support/x509.ts'
import { silentLog } from '../core/log.ts'
import { nodeVerifier } from '../plugins/signer.ts'
import { httpApp } from './app.ts'

const server = await testServer()
const { deps, store, clock } = server
const [own, other] = [
  await makeCertificate({ name: 'own', ca: true }),
  await makeCertificate({ name: 'other', ca: true }),
]
const authorities = ({ der }: { readonly der: Uint8Array }) => [{ der, tainted: false }]
await store.bundles.append({ trustDomain: TD, x509Authorities: authorities(own) })
await store.bundles.append({ trustDomain: 'other.org' as never, x509Authorities: authorities(other) })

function app(basePath?: string) {
  const handle = httpApp({
    server: { deps, adminService: server.service, bundle: deps.bundle, identity: () => undefined } as never,
    audiences: ['https://id.example.org'],
    issuer: undefined,
    sealSecret: new Uint8Array(32),
    uses: memoryUses(),
    verify: nodeVerifier(),
    clock,
    log: silentLog,
    ...(basePath === undefined ? {} : { basePath }),
  })
  return async (path: string) => {
    const answer = await handle(new Request(`https://id.example.org${path}`), '192.0.2.1')
    return { status: answer.status, text: await answer.text() }
  }
}

/** As a bundle document writes a certificate. */
const x5c = ({ der }: { readonly der: Uint8Array }) => Buffer.from(der).toString('base64')

test('the bundle of a trust domain is its own, and never that of another', async () => {
  const get = app()
  for (const [path, [its, not]] of [
    ['/', [own, other]],
    ['/bundle', [own, other]],
    [`/bundle/${TD}`, [own, other]],
    ['/bundle/other.org', [other, own]],
  ] as const) {
    const { status, text } = await get(path)
    expect(status).toBe(200)
    expect(text).toContain(x5c(its))
    expect(text).not.toContain(x5c(not))
  }
  expect((await get('/bundle/unknown.org')).status).toBe(404)
  expect((await get('/ready')).status).toBe(200)
})

test('an app that is mounted somewhere answers there', async () => {
  const get = app('/identity')
  expect((await get('/identity/bundle')).text).toContain(x5c(own))
  expect((await get('/bundle')).status).toBe(404)
})
