import { base64 } from '../../src/core/base64.ts'
import { KEY_TYPES, type KeyType } from '../../src/core/key-type.ts'
import { silentLog } from '../../src/core/log.ts'
import { webCryptoVerifier } from '../../src/core/public-key.ts'
import { parseSpiffeId } from '../../src/core/spiffe-id.ts'
import { parseTrustDomainName } from '../../src/core/trust-domain.ts'
import { generateWebCryptoSigner } from '../../src/core/web-crypto-signer.ts'
import { parseWitKey, witKeyOf } from '../../src/core/wit-svid.ts'
import { databaseKeyManager, parseKek } from '../../src/plugins/keymanager/database/database.ts'
import { Ca } from '../../src/server/ca.ts'
import { CaManager } from '../../src/server/ca-manager.ts'
import { type D1Binding, openD1Store } from '../../src/store/d1.ts'

interface Environment {
  readonly DB: D1Binding
  readonly KEK: string
}

const trustDomain = parseTrustDomainName('example.org')
const random = (bytes: Uint8Array) => crypto.getRandomValues(bytes as Uint8Array<ArrayBuffer>)
const DATA = new TextEncoder().encode('what is signed')

/** Makes and uses authorities inside workerd, for authorities.test.ts to judge. Each request is a replica that just started. */
export default {
  async fetch(request: Request, { DB, KEK }: Environment): Promise<Response> {
    const { pathname, searchParams } = new URL(request.url)
    const now = Number(searchParams.get('now'))
    const clock = { nowMs: () => now * 1000 }
    const store = await openD1Store({ binding: DB, log: silentLog, clock })
    const keyManager = await databaseKeyManager({
      trustDomain,
      keys: store.keys,
      keks: [{ version: '1', key: parseKek(KEK) }],
    })
    if (pathname === '/key') {
      const type = searchParams.get('type') as KeyType
      if (!Object.hasOwn(KEY_TYPES, type)) return new Response('no such type', { status: 400 })
      const signer = await keyManager.generateKey(`test-${type}`, type)
      const { wrapped } = (await store.keys.get(`test-${type}`))!
      return Response.json({
        publicKey: base64(signer.publicKey),
        signature: base64(await signer.sign(DATA)),
        wrapped: base64(wrapped),
        exportable: signer.exportPrivateKey !== undefined,
      })
    }
    const ca = new Ca({
      trustDomain,
      x509SvidTtlSeconds: 3600,
      jwtSvidTtlSeconds: 300,
      agentTtlSeconds: 3600,
      caTtlSeconds: 86_400,
      clock,
      random,
    })
    const manager = await CaManager.load(
      {
        trustDomain,
        caTtlSeconds: 86_400,
        caKeyType: 'ec-p256',
        jwtKeyType: 'ec-p256',
        witKeyType: 'ec-p256',
        caSubject: { organization: ['SPIFFE'] },
        disableJwtSvids: false,
      },
      { store, keyManager, ca, verify: webCryptoVerifier(), clock, random, log: silentLog },
    )
    await manager.start((ms) => new Promise((resolve) => setTimeout(resolve, ms / 10)))
    const id = parseSpiffeId('spiffe://example.org/w')
    const { publicKey: spki } = await generateWebCryptoSigner('ec-p256')
    const { chain } = await ca.signWorkloadX509({ id, spki, ttlSeconds: 60 })
    const jwk = witKeyOf(parseWitKey(spki), 'ES256')
    const bundle = (await store.bundles.get(trustDomain))!
    return Response.json({
      leaf: base64(chain[0]!),
      jwt: (await ca.signJwt({ id, audience: ['a'], ttlSeconds: 60 })).token,
      wit: (await ca.signWit({ id, jwk, ttlSeconds: 60 })).token,
      roots: bundle.x509Authorities.map(({ der }) => base64(der)),
      jwtKeys: bundle.jwtAuthorities.map((key) => ({ ...key, publicKey: base64(key.publicKey) })),
      witKeys: bundle.witAuthorities.map((key) => ({ ...key, publicKey: base64(key.publicKey) })),
    })
  },
}
