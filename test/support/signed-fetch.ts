import { mkdirSync, readFileSync } from 'node:fs'
import { certificatesFromPem, decodePem } from '../../src/core/pem.ts'
import { importSigner } from '../../src/plugins/signer.ts'
import { type HttpIdentity, x509Credential } from '../../src/transport/http-signature.ts'
import { signWith } from '../../src/transport/message-signature.ts'
import { type Cluster, type ServerFiles, spiffe } from './cluster.ts'

/** Mints an X509-SVID by the command line, to sign requests with. */
export async function mintIdentity(cluster: Cluster, server: ServerFiles, id: string): Promise<HttpIdentity> {
  const folder = cluster.path(`minted-${id.replaceAll('/', '-')}`)
  mkdirSync(folder)
  await cluster.must(server, 'x509', 'mint', '-spiffeID', spiffe(id), '-write', folder)
  const [key] = decodePem(readFileSync(`${folder}/key.pem`, 'utf8'))
  return {
    chain: certificatesFromPem(readFileSync(`${folder}/svid.pem`, 'utf8')),
    signer: importSigner(key!.bytes, key!.label),
  }
}

/** `fetch` for clients that know nothing of our signatures: signs what they send. @param now Unix seconds */
export function signedFetch(
  identity: HttpIdentity,
  audience: string,
  now: () => number = () => Math.floor(Date.now() / 1000),
): typeof fetch {
  return async (input, init) => {
    const request = new Request(input, init)
    const body = new Uint8Array(await request.arrayBuffer())
    const { pathname, search } = new URL(request.url)
    const message = { method: request.method, target: pathname + search, headers: request.headers, body }
    const nonce = crypto.randomUUID()
    const headers = await signWith(message, x509Credential(identity), { audience, now: now(), nonce })
    const all = new Headers(request.headers)
    for (const [name, value] of Object.entries(headers)) all.set(name, value)
    return fetch(request.url, { method: request.method, headers: all, body, signal: request.signal })
  }
}
