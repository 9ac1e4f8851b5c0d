import { execFile, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { importJWK, jwtVerify } from 'jose'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { JwtAuthority } from '../../src/core/bundle.ts'
import { jwkOf } from '../../src/core/jwk.ts'
import { validateWitSvid } from '../../src/core/wit-svid.ts'
import { nodeVerifier } from '../../src/plugins/signer.ts'

/** WIT-SVIDs of SPIRE and ours, minted with the command line of either; SPIRE_BIN as in cli.test.ts. */
const given = process.env.SPIRE_BIN
const missing = given === undefined || given === ''
if (missing) console.warn('SPIRE_BIN is not set: WIT-SVIDs are NOT compared with those of SPIRE')
const folder = missing ? '' : given.endsWith('spire-server') ? dirname(given) : given
const SERVERS = {
  SPIRE: join(folder, 'spire-server'),
  Turret: fileURLToPath(new URL('../../bin/turret-server', import.meta.url)),
}
type Program = keyof typeof SERVERS
const env = { PATH: process.env.PATH, SPIRE_SERVER_FFLAGS: 'wit-svid' }

function run(program: Program, ...args: string[]): Promise<{ code: number; out: string; err: string }> {
  return new Promise((resolve) => {
    execFile(SERVERS[program], args, { env }, (error, out, err) => {
      resolve({ code: error === null ? 0 : Number(error.code), out, err })
    })
  })
}

describe.skipIf(missing)('WIT-SVIDs beside SPIRE', { timeout: 30_000 }, () => {
  const home = mkdtempSync(join(tmpdir(), 'turret-wit-'))
  const socket = (program: Program) => join(home, `${program}.sock`)
  const stop: (() => Promise<void>)[] = []

  async function start(program: Program): Promise<void> {
    const config = join(home, `${program}.conf`)
    mkdirSync(join(home, program))
    writeFileSync(
      config,
      `server {
  trust_domain = "example.org"  bind_address = "127.0.0.1"  bind_port = 0
  data_dir = "${home}/${program}"  socket_path = "${socket(program)}"  log_level = "ERROR"
  experimental { feature_flags = ["wit-svid"]  wit_issuer = "the-issuer"  wit_key_type = "ec-p384" }
}
plugins {
  DataStore "sql" { plugin_data { database_type = "sqlite3"  connection_string = "${home}/${program}/db" } }
  KeyManager "disk" { plugin_data { keys_path = "${home}/${program}/keys.json" } }
  NodeAttestor "join_token" { plugin_data {} }
}
`.replace('bind_port = 0', `bind_port = ${await freePort()}`),
    )
    const child = spawn(SERVERS[program], ['run', '-config', config], { stdio: ['ignore', 'ignore', 'inherit'] })
    const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
    stop.push(() => {
      child.kill()
      return ended
    })
    while ((await run(program, 'healthcheck', '-socketPath', socket(program))).code !== 0) {
      if (child.exitCode !== null) throw new Error(`${program} ended before it was ready`)
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }

  beforeAll(() => Promise.all([start('SPIRE'), start('Turret')]), 30_000)
  afterAll(async () => {
    for (const end of stop) await end()
    rmSync(home, { recursive: true, force: true })
  })

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
        text
          .replaceAll('turret-', 'spire-')
          .replace(/eyJ[\w-]+\.[\w-]+\.[\w-]+/g, 'TOKEN')
          .replace(/(\\?")(x|y|n|e|d|p|q|dp|dq|qi)\1:\1[\w-]+/g, '$2:K')
          .replace(/:\d{10}\b/g, ':TIME')
      return { code, out: plain(out), err: plain(err) }
    }
    expect(await outcome('Turret')).toEqual(await outcome('SPIRE'))
  })
})

async function freePort(): Promise<number> {
  const { createServer } = await import('node:net')
  return new Promise((resolve) => {
    const listener = createServer().listen(0, '127.0.0.1', () => {
      const { port } = listener.address() as { port: number }
      listener.close(() => resolve(port))
    })
  })
}
