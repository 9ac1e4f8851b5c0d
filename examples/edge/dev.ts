import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import { parseArgs, promisify } from 'node:util'
import { jwkThumbprint } from '../../src/core/jwk.ts'
import { decodePem, encodePem } from '../../src/core/pem.ts'
import { generateSigner, importSigner } from '../../src/plugins/signer.ts'
import { bold, dim, say, step } from '../nested/screen.ts'
import { startWorkerd } from './workerd.ts'

const ROOT = resolve(import.meta.dirname, '../..')
const USAGE = `usage: npm run dev:edge [-- OPTIONS]

Runs the whole server in workerd on this machine, with a D1 database, and says what to try. Nothing leaves the machine.

  --port PORT     default 8787
  --folder DIR    where database and keys are kept; default .wrangler/turret
  --once          end when everything is up
  -h, --help      this text
`

const { values: options } = parseArgs({
  options: {
    port: { type: 'string', default: '8787' },
    folder: { type: 'string', default: join(ROOT, '.wrangler/turret') },
    once: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
})
if (options.help) {
  say(USAGE)
  process.exit(0)
}

const folder = resolve(options.folder)
const url = `http://127.0.0.1:${options.port}`
const file = (name: string) => join(folder, name)

const { kek, operator } = await step('key-encryption key and operator key', async () => {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  return {
    kek: kept('kek', () => randomBytes(32).toString('hex')),
    operator: await operatorThumbprint(file('operator.pem')),
  }
})

const worker = await step('workerd', async () => {
  const started = await startWorkerd({
    folder,
    port: Number(options.port),
    variables: {
      KEK: kek,
      AUDIENCES: url,
      ISSUER: url,
      OPERATOR_KEYS: operator,
      X509POP_CA_BUNDLE: 'spiffe',
      LOG_LEVEL: 'warning',
    },
  })
  await started.url
  return started
})

await step('database, CA and bundle', async () => {
  const response = await fetch(url)
  if (!response.ok) throw new Error(`${response.status} ${await response.text()}`)
  writeFileSync(file('bundle.json'), await response.text())
})

const remote = {
  TURRET_SERVER_URL: url,
  TURRET_SERVER_TRUST_BUNDLE: file('bundle.json'),
  TURRET_SERVER_TRUST_DOMAIN: 'example.org',
  TURRET_OPERATOR_KEY: file('operator.pem'),
}
const token = await step('join token, as an operator over HTTP', async () => {
  const args = ['token', 'generate', '-spiffeID', 'spiffe://example.org/laptop']
  const { stdout } = await promisify(execFile)(join(ROOT, 'bin/turret-server'), args, {
    env: { ...process.env, ...remote },
  })
  return /Token: (\S+)/.exec(stdout)![1]!
})

writeFileSync(
  file('agent.conf'),
  `agent {
  data_dir = "${file('agent')}"
  server_url = "${url}"
  socket_path = "${file('agent.sock')}"
  trust_bundle_path = "${file('bundle.json')}"
  trust_bundle_format = "spiffe"
  trust_domain = "example.org"
}
plugins {
  NodeAttestor "join_token" { plugin_data {} }
  KeyManager "disk" { plugin_data { directory = "${file('agent')}" } }
  WorkloadAttestor "unix" { plugin_data {} }
}
`,
)

/** Relative where that is shorter. */
const short = (path: string) => {
  const near = relative(process.cwd(), path)
  return near.startsWith('..') ? path : near
}
say(`
${bold('A SPIFFE server in workerd')}, trust domain example.org

  bundle       ${url}/
  JWKS         ${url}/keys
  discovery    ${url}/.well-known/openid-configuration
  API          ${url}/spire.api.server.bundle.v1.Bundle/GetBundle ${dim('(POST, Connect)')}
  cron         ${url}/cdn-cgi/handler/scheduled

${bold('Try next')}, in another terminal

  ${dim('# administrate')}
${Object.entries(remote)
  .map(([name, value]) => `  export ${name}=${value.startsWith('/') ? short(value) : value}`)
  .join('\n')}
  bin/turret-server entry create -parentID spiffe://example.org/laptop -spiffeID spiffe://example.org/me -selector unix:uid:$(id -u)
  bin/turret-server entry show

  ${dim('# an agent on this machine, attested over HTTP')}
  bin/turret-agent run -config ${short(file('agent.conf'))} -joinToken ${token} &
  bin/turret-agent api fetch x509 -socketPath ${short(file('agent.sock'))}

  ${dim('# anybody')}
  curl -s -H 'content-type: application/json' -d '{}' ${url}/spire.api.server.bundle.v1.Bundle/GetBundle

Everything is kept in ${short(folder)}; remove it to begin anew.${options.once ? '' : ' Ctrl-C ends it.'}
`)

if (options.once) await end()
else for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void end())

async function end(): Promise<void> {
  await worker.dispose()
  process.exit(0)
}

/** What is made once and kept for its owner only. */
function kept(name: string, make: () => string): string {
  if (!existsSync(file(name))) writeFileSync(file(name), make(), { mode: 0o600, flag: 'wx' })
  return readFileSync(file(name), 'utf8')
}

async function operatorThumbprint(path: string): Promise<string> {
  if (!existsSync(path)) {
    const made = await generateSigner('ec-p256')
    writeFileSync(path, encodePem('PRIVATE KEY', made.exportPrivateKey()), { mode: 0o600, flag: 'wx' })
  }
  const [block] = decodePem(readFileSync(path, 'utf8'))
  return jwkThumbprint(importSigner(block!.bytes).publicKey)
}
