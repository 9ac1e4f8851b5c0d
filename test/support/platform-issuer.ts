import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type CryptoKey, exportJWK, generateKeyPair, type JWTPayload, SignJWT } from 'jose'

/** An OpenID Connect issuer on this machine, as platforms have them: discovery, keys and tokens. */
export interface PlatformIssuer {
  readonly url: string
  /** Paths that were asked for. */
  readonly asked: string[]
  /** Answers instead of the issuer where it returns true; for faults. */
  meddle: (request: IncomingMessage, response: ServerResponse) => boolean
  readonly keys: Readonly<Record<'rs' | 'es', { readonly privateKey: CryptoKey; readonly publicKey: CryptoKey }>>
  /** Signs claims as they are; default RS256 by the key `rs`. */
  sign(
    claims: JWTPayload,
    header?: { readonly alg?: string; readonly kid?: string; readonly typ?: string },
  ): Promise<string>
  stop(): void
}

export async function platformIssuer(): Promise<PlatformIssuer> {
  const keys = {
    rs: await generateKeyPair('RS256', { extractable: true }),
    es: await generateKeyPair('ES256', { extractable: true }),
  }
  const published = await Promise.all(
    (['rs', 'es'] as const).map(async (kid) => ({ ...(await exportJWK(keys[kid].publicKey)), kid, use: 'sig' })),
  )
  const jwks = JSON.stringify({ keys: published })
  const asked: string[] = []
  const server = createServer((request, response) => {
    asked.push(request.url!)
    if (issuer.meddle(request, response)) return
    if (request.url === '/.well-known/openid-configuration') {
      response.end(JSON.stringify({ issuer: issuer.url, jwks_uri: `${issuer.url}/jwks` }))
    } else if (request.url === '/jwks') response.end(jwks)
    else response.writeHead(404).end()
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const issuer: PlatformIssuer = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
    meddle: () => false,
    keys,
    sign(claims, { alg = 'RS256', kid, typ = 'JWT' } = {}) {
      const name = alg.startsWith('ES') ? 'es' : 'rs'
      return new SignJWT(claims).setProtectedHeader({ alg, kid: kid ?? name, typ }).sign(keys[name].privateKey)
    },
    stop() {
      server.closeAllConnections()
      server.close()
    },
  }
  return issuer
}
