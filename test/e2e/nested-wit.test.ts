import { writeFileSync } from 'node:fs'
import { afterAll, expect, test } from 'vitest'
import { validateWitSvid } from '../../src/core/wit-svid.ts'
import { nodeVerifier } from '../../src/plugins/signer.ts'
import { Cluster, eventually, type ServerFiles } from '../support/cluster.ts'

// The command `wit mint` is there for those who ask for it.
process.env.SPIRE_SERVER_FFLAGS = 'wit-svid'
const cluster = new Cluster()
afterAll(() => cluster.stop(), 30_000)

const WIT = { server: 'experimental { feature_flags = ["wit-svid"] }' }

interface BundleJson {
  readonly wit_authorities?: readonly { readonly key_id: string; readonly public_key: string }[]
}

async function witAuthorities(server: ServerFiles) {
  const bundle: BundleJson = JSON.parse(await cluster.must(server, 'bundle', 'show', '-output', 'json'))
  return (bundle.wit_authorities ?? []).map(({ key_id, public_key }) => ({
    keyId: key_id,
    publicKey: new Uint8Array(Buffer.from(public_key, 'base64')),
    expiresAt: 0,
    tainted: false,
  }))
}

/** A server below `root` that attests by itself. */
async function below(name: string, root: ServerFiles, settings: { readonly server?: string }): Promise<ServerFiles> {
  const token = await cluster.token(root, `${name}/node`)
  await cluster.entry(root, `${name}/node`, `${name}/server`, '-downstream')
  const files = await cluster.serverFiles(name, {
    ...settings,
    plugins: `UpstreamAuthority "spire" { plugin_data { server_address = "127.0.0.1" server_port = "${root.port}"
      trust_bundle_path = "${cluster.path('root.pem')}" node_attestor "join_token" { join_token = "${token}" } } }`,
  })
  await cluster.startServer(files)
  return files
}

async function validAt(server: ServerFiles, token: string) {
  const authorities = await witAuthorities(server)
  const at = Math.floor(Date.now() / 1000)
  return validateWitSvid({ token, authoritiesOf: () => authorities, at, verify: nodeVerifier() })
}

async function mint(server: ServerFiles): Promise<string> {
  return (await cluster.must(server, 'wit', 'mint', '-spiffeID', 'spiffe://example.org/w')).split('\n')[0]!
}

test('a WIT-SVID of one nested server is valid at the root and at its sibling', async () => {
  const root = await cluster.serverFiles('root', WIT)
  await cluster.startServer(root)
  writeFileSync(cluster.path('root.pem'), await cluster.must(root, 'bundle', 'show'))
  const [a, b] = [await below('a', root, WIT), await below('b', root, WIT)]
  expect(await witAuthorities(root)).toHaveLength(3)
  const token = await mint(a)
  for (const server of [root, a, b]) {
    const valid = await eventually(() => validAt(server, token))
    expect(valid.spiffeId).toBe('spiffe://example.org/w')
  }
  // A sibling without the feature has nothing to publish, and is told of the keys all the same.
  const plain = await below('plain', root, {})
  await eventually(() => validAt(plain, token))
  expect(await witAuthorities(root)).toHaveLength(3)
}, 60_000)

test('below a root that takes no WIT keys they stay where they were made', async () => {
  const root = await cluster.serverFiles('old-root')
  await cluster.startServer(root)
  writeFileSync(cluster.path('root.pem'), await cluster.must(root, 'bundle', 'show'))
  const a = await below('lone', root, WIT)
  expect((await validAt(a, await mint(a))).algorithm).toBe('ES256')
  expect(await witAuthorities(root)).toEqual([])
  expect(cluster.log('lone')).toContain('UpstreamAuthority plugin does not support WIT-SVIDs')
}, 60_000)
