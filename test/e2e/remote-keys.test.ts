import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { hasPython, type Service, startMoto } from '../support/aws/moto.ts'
import { Cluster, exitCode, spiffe } from '../support/cluster.ts'
import { startOpenBao } from '../support/vault/openbao.ts'

const cluster = new Cluster()
const services: Service[] = []

afterAll(async () => {
  await cluster.stop()
  for (const service of services) service.stop()
}, 30_000)

describe.skipIf(!hasPython)(
  `keys in a service far away${hasPython ? '' : ' (skipped: there is no python3 with venv)'}`,
  () => {
    beforeAll(async () => {
      services.push(await startMoto(), await startOpenBao())
      process.env.AWS_ENDPOINT_URL = `${services[0]!.address}/`
      await fetch(`${services[1]!.address}/v1/sys/mounts/transit`, {
        method: 'POST',
        headers: { 'x-vault-token': 'root' },
        body: '{"type":"transit"}',
      })
    }, 180_000)
    afterAll(() => {
      delete process.env.AWS_ENDPOINT_URL
    })

    test.each([
      [
        'aws_kms',
        () =>
          'region = "eu-west-1" access_key_id = "AKID" secret_access_key = "the-secret" key_identifier_value = "e2e"',
      ],
      [
        'hashicorp_vault',
        () => `vault_addr = "${services[1]!.address}" token_auth { token = "root" } key_identifier_value = "e2e"`,
      ],
    ])(
      'a server signs with %s, and a restart takes up the same authorities',
      async (name, data) => {
        const own = new Cluster()
        try {
          const files = await own.serverFiles(name, {
            keyManager: `KeyManager "${name}" { plugin_data { ${data()} } }`,
          })
          const child = await own.startServer(files)
          const bundle = await own.must(files, 'bundle', 'show')
          await own.must(files, 'x509', 'mint', '-spiffeID', spiffe('db'))
          const token = await own.must(files, 'jwt', 'mint', '-spiffeID', spiffe('db'), '-audience', 'x')
          expect(token.split('.')).toHaveLength(3)
          child.kill('SIGTERM')
          expect(await exitCode(child)).toBe(0)
          await own.startServer(files)
          expect(await own.must(files, 'bundle', 'show')).toBe(bundle)
          expect(readFileSync(own.path(`${name}.log`), 'utf8')).not.toContain('the-secret')
        } finally {
          await own.stop()
        }
      },
      60_000,
    )

    test('a service that does not answer is one clear line', async () => {
      const data = 'vault_addr = "http://127.0.0.1:1" token_auth { token = "root" } key_identifier_value = "e2e"'
      const files = await cluster.serverFiles('unreachable', {
        keyManager: `KeyManager "hashicorp_vault" { plugin_data { ${data} } }`,
      })
      const { code, stdout } = await cluster.processes.run('turret-server', ['run', '-config', files.config])
      expect(code).toBe(1)
      expect(stdout).toContain('http://127.0.0.1:1 does not answer: connect ECONNREFUSED')
    }, 30_000)
  },
)
