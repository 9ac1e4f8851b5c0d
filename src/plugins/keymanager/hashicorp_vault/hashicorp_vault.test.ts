import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { keyManagerSuite } from '../../../../test/contract/keymanager.ts'
import { hasPython, type Service } from '../../../../test/support/aws/moto.ts'
import { startOpenBao } from '../../../../test/support/vault/openbao.ts'
import { silentLog } from '../../../core/log.ts'
import { parsePublicKey } from '../../../core/public-key.ts'
import { nodeVerifier } from '../../signer.ts'
import { type VaultAuth, type VaultSend, vaultClient } from '../../vault/client.ts'
import { tlsFetch } from '../../vault/tls-fetch.ts'
import { vaultKeyManager } from './hashicorp_vault.ts'

let bao: Service
let servers = 0
const clock = { ms: Date.now(), nowMs: () => clock.ms }

describe.skipIf(!hasPython)(
  `hashicorp_vault on OpenBao${hasPython ? '' : ' (skipped: there is no python3 with venv)'}`,
  () => {
    beforeAll(async () => {
      bao = await startOpenBao()
      await vault('POST', 'sys/mounts/transit', { type: 'transit' })
      await vault('POST', 'sys/auth/approle', { type: 'approle' })
      await vault('POST', 'sys/policies/acl/turret', {
        policy: 'path "transit/*" { capabilities = ["create","read","update","delete","list"] }',
      })
      await vault('POST', 'auth/approle/role/turret', { token_policies: 'turret', token_ttl: '60s' })
    }, 120_000)
    afterAll(() => bao?.stop())

    const client = (auth: VaultAuth) => vaultClient({ address: bao.address, auth, fetch: tlsFetch({}), clock })
    const vault: VaultSend = (...request) => client({ method: 'token', token: 'root' })(...request)
    const open = (changes: { serverId?: string; vault?: VaultSend } = {}) =>
      vaultKeyManager({ serverId: `server-${++servers}`, vault, newUuid: randomUUID, log: silentLog, ...changes })
    const names = async () => (await vault('LIST', 'transit/keys')).keys as string[]

    keyManagerSuite(async () => open())

    test('keys are there after a restart, under the names of SPIRE, and others are left alone', async () => {
      const first = await open({ serverId: 'prod' }).generateKey('x509-CA-A', 'ec-p256')
      await vault('POST', `transit/keys/prod-2-${randomUUID()}-x509-CA-A`, { type: 'ecdsa-p256' })
      const again = open({ serverId: 'prod' })
      expect([...(await again.getKeys()).keys()]).toEqual(['x509-CA-A'])
      expect((await again.getKey('x509-CA-A'))?.publicKey).toEqual(first.publicKey)
      expect(await names()).toContainEqual(expect.stringMatching(/^prod-[0-9a-f-]{36}-x509-CA-A$/))
    })

    test('a key that was replaced is deleted; one that cannot be is deleted by the next maintenance', async () => {
      let refuse = false
      const serverId = 'replaced'
      const manager = open({
        serverId,
        vault: (method, path, body) =>
          refuse && method === 'DELETE' ? Promise.reject(new Error('no')) : vault(method, path, body),
      })
      const count = async () => (await names()).filter((name) => name.startsWith(`${serverId}-`)).length
      await manager.generateKey('JWT-Signer-A', 'ec-p256')
      await manager.generateKey('JWT-Signer-A', 'ec-p256')
      expect(await count()).toBe(1)
      refuse = true
      const last = await manager.generateKey('JWT-Signer-A', 'ec-p256')
      expect(await count()).toBe(2)
      // A restart at this moment takes the newer one.
      expect((await open({ serverId }).getKey('JWT-Signer-A'))?.publicKey).toEqual(last.publicKey)
      refuse = false
      await manager.maintain!(0)
      expect(await count()).toBe(1)
    })

    test('with an AppRole it logs in, renews before the token ends, and logs in anew when Vault forgot the token', async () => {
      const { role_id } = await vault('GET', 'auth/approle/role/turret/role-id')
      let logins = 0
      const send = client({
        method: 'login',
        mount: 'approle',
        async body() {
          logins += 1
          return { role_id, secret_id: (await vault('POST', 'auth/approle/role/turret/secret-id')).secret_id }
        },
      })
      const manager = open({ vault: send })
      const signer = await manager.generateKey('x509-CA-A', 'ec-p256')
      expect(logins).toBe(1)
      clock.ms += 45_000
      await signer.sign(new Uint8Array(1))
      expect(logins).toBe(1)
      await vault('POST', 'auth/approle/tidy/secret-id')
      const { keys } = await vault('LIST', 'auth/token/accessors')
      for (const accessor of keys as string[]) {
        const { path } = await vault('POST', 'auth/token/lookup-accessor', { accessor })
        if (path === 'auth/approle/login') await vault('POST', 'auth/token/revoke-accessor', { accessor })
      }
      expect(await signer.sign(new Uint8Array(1))).toHaveLength(64)
      expect(logins).toBe(2)
    })

    test('a key that somebody rotates in the engine goes on signing as the key whose public half is known', async () => {
      const serverId = 'rotated'
      const signer = await open({ serverId }).generateKey('x509-CA-A', 'ec-p256')
      const name = (await names()).find((candidate) => candidate.startsWith(`${serverId}-`))!
      await vault('POST', `transit/keys/${name}/rotate`)
      const data = new Uint8Array(10)
      const key = parsePublicKey(signer.publicKey)
      expect(await nodeVerifier()(key, { kind: 'ecdsa', hash: 'SHA-256' }, data, await signer.sign(data))).toBe(true)
    })

    test('a signature with another version of the key is refused', async () => {
      const manager = open({
        vault: async (...request) => {
          const { signature, ...answer } = await vault(...request)
          return signature === undefined ? answer : { signature: String(signature).replace(':v1:', ':v2:') }
        },
      })
      const signer = await manager.generateKey('x509-CA-A', 'ec-p256')
      await expect(signer.sign(new Uint8Array(1))).rejects.toThrow(
        'transit engine signed with version 2 of the key, not with 1',
      )
    })

    test('a wrong token is an error that does not repeat it', async () => {
      const manager = open({ vault: client({ method: 'token', token: 's.the-secret-token' }) })
      const error = await manager.getKeys().catch((caught: Error) => caught)
      expect(String(error)).toContain('authentication failed: Vault answered with HTTP status 403')
      expect(String(error)).not.toContain('the-secret-token')
    })
  },
)
