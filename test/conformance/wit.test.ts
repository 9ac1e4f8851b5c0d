import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { importJWK, jwtVerify } from 'jose'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { JwtAuthority } from '../../src/core/bundle.ts'
import { jwkOf } from '../../src/core/jwk.ts'
import { validateWitSvid } from '../../src/core/wit-svid.ts'
import { nodeVerifier } from '../../src/plugins/signer.ts'
import { type Program, SPIRE_IS_MISSING, sideBySide, withoutRemoteFlags } from '../support/side-by-side.ts'

/** WIT-SVIDs of SPIRE and ours, minted with the command line of either. */
if (SPIRE_IS_MISSING) console.warn('SPIRE_BIN is not set: WIT-SVIDs are NOT compared with those of SPIRE')

describe.skipIf(SPIRE_IS_MISSING)('WIT-SVIDs beside SPIRE', { timeout: 30_000 }, () => {
  const both = sideBySide({
    server: 'experimental { feature_flags = ["wit-svid"]  wit_issuer = "the-issuer"  wit_key_type = "ec-p384" }',
    env: { SPIRE_SERVER_FFLAGS: 'wit-svid' },
  })
  const { home, socket, run } = both
  beforeAll(() => both.start(), 30_000)
  afterAll(() => both.stop())

  async function authorities(program: Program): Promise<JwtAuthority[]> {
    const { out } = await run('Turret', 'bundle', 'show', '-output', 'json', '-socketPath', socket(program))
    const { wit_authorities: keys } = JSON.parse(out) as {
      wit_authorities: { key_id: string; public_key: string }[]
    }
    return keys.map(({ key_id, public_key }) => ({
      keyId: key_id,
      publicKey: new Uint8Array(Buffer.from(public_key, 'base64')),
      expiresAt: 0,
      tainted: false,
    }))
  }

  test.each([
    ['SPIRE', 'SPIRE'],
    ['SPIRE', 'Turret'],
    ['Turret', 'SPIRE'],
    ['Turret', 'Turret'],
  ] as const)('a token that %s minted at the request of %s is valid, for us and for jose', async (server, client) => {
    const args = ['-spiffeID', 'spiffe://example.org/w', '-keyType', 'rsa-2048', '-signingAlgorithm', 'PS256']
    const { out, err } = await run(client, 'wit', 'mint', '-socketPath', socket(server), ...args)
    expect(err).toBe('')
    const [token, privateKey] = out.trim().split('\n') as [string, string]
    const keys = await authorities(server)
    const at = Math.floor(Date.now() / 1000)
    const valid = await validateWitSvid({ token, authoritiesOf: () => keys, at, verify: nodeVerifier() })
    expect(valid).toMatchObject({ spiffeId: 'spiffe://example.org/w', algorithm: 'PS256' })
    expect(jwkOf(valid.key.spki)).toMatchObject({ n: JSON.parse(privateKey).n })
    const verified = await jwtVerify(token, await importJWK(jwkOf(keys[0]!.publicKey) as never, 'ES384'), {
      issuer: 'the-issuer',
      typ: 'wit+jwt',
    })
    expect(Object.keys(verified.payload)).toEqual(['cnf', 'exp', 'iat', 'iss', 'sub'])
    expect(Object.keys((verified.payload.cnf as { jwk: object }).jwk)).toEqual(['kty', 'alg', 'n', 'e'])
    expect(verified.payload.exp! - verified.payload.iat!).toBe(3600)
  })

  test('the names of keys on disk are the same', () => {
    const names = (program: Program) =>
      Object.keys(JSON.parse(readFileSync(join(home, program, 'keys.json'), 'utf8')).keys).sort()
    expect(names('Turret')).toEqual(names('SPIRE'))
  })

  const minting = 'mint -socketPath S -spiffeID spiffe://example.org/w'
  test.each([
    `${minting}`,
    `${minting} -output json`,
    `${minting} -keyType rsa-2048 -signingAlgorithm RS512`,
    `${minting} -keyType rsa-2048`,
    `${minting} -signingAlgorithm RS256`,
    `${minting} -signingAlgorithm foo`,
    `${minting} -ttl 50h`,
    `${minting} -write /nope`,
    `${minting} -write ${home}`,
    'mint -socketPath S -spiffeID spiffe://other.org/w',
    'mint -socketPath S',
    'mint -h',
    'mint -bogus',
    '-h',
  ])('wit %s prints the same', async (line) => {
    const outcome = async (program: Program) => {
      const args = line.split(' ').map((word) => (word === 'S' ? socket('SPIRE') : word))
      const { code, out, err } = await run(program, 'wit', ...args)
      const plain = (text: string) =>
        withoutRemoteFlags(text)
          .replaceAll('turret-', 'spire-')
          .replace(/eyJ[\w-]+\.[\w-]+\.[\w-]+/g, 'TOKEN')
          .replace(/(\\?")(x|y|n|e|d|p|q|dp|dq|qi)\1:\1[\w-]+/g, '$2:K')
          .replace(/:\d{10}\b/g, ':TIME')
      return { code, out: plain(out), err: plain(err) }
    }
    expect(await outcome('Turret')).toEqual(await outcome('SPIRE'))
  })
})
