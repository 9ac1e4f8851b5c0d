import { expect, test } from 'vitest'
import { readServerConfig } from '../config/server.ts'
import { systemClock } from '../core/clock.ts'
import { nodeVerifier } from '../plugins/signer.ts'
import { CommandError } from './failure.ts'
import { PluginSet, requireUsablePlugins } from './plugin-set.ts'

/** The plugins that a server cannot be without. */
const NEEDED = 'DataStore "sql" { plugin_data { database_type = "sqlite3" connection_string = ":memory:" } }'

const noExternal = () => Promise.reject(new Error('no plugin out of process was named'))

async function check(plugins: string) {
  const text = `server { trust_domain = "example.org" data_dir = "/d" }\nplugins {\n${plugins}\n}`
  const options = readServerConfig(text, 'server.conf')
  return new PluginSet('server', options.plugins, noExternal).check(options, 'ask')
}

async function refusalOf(plugins: string): Promise<CommandError> {
  try {
    await check(plugins)
  } catch (error) {
    expect(error).toBeInstanceOf(CommandError)
    return error as CommandError
  }
  throw new Error('nothing was refused')
}

test.each([
  ['UpstreamCA "disk"', 'unsupported plugin type "UpstreamCA"', ['"UpstreamCA" is "UpstreamAuthority" now']],
  [
    'NodeResolver "aws_iid"',
    'unsupported plugin type "NodeResolver"',
    ['"NodeResolver" is gone: node attestors give the selectors of nodes themselves'],
  ],
  ['constructor "x"', 'unsupported plugin type "constructor"', []],
  ['WorkloadAttestor "unix"', 'unsupported plugin type "WorkloadAttestor"', []],
  [
    'KeyManager "dsk"',
    'failed to load plugin "dsk": no built-in plugin "dsk" for type "KeyManager"',
    ['did you mean "disk"?', 'KeyManager has aws_kms, database, disk, hashicorp_vault, memory'],
  ],
  [
    'NodeAttestor "join-token"',
    'failed to load plugin "join-token": no built-in plugin "join-token" for type "NodeAttestor"',
    ['did you mean "join_token"?', 'NodeAttestor has join_token, x509pop'],
  ],
  [
    'Notifier "constructor"',
    'failed to load plugin "constructor": no built-in plugin "constructor" for type "Notifier"',
    ['this version has no Notifier'],
  ],
])('the plugin in %s is refused, and what is near is said', async (plugin, message, hints) => {
  expect(await refusalOf(`${plugin} { plugin_data {} }`)).toMatchObject({ message, hints })
})

test('what is wrong is told with plugin, key and line', async () => {
  const problems = await check(`${NEEDED}
KeyManager "disk" { plugin_data { keys_pth = "k" } }
NodeAttestor "x509pop" {
  plugin_data {
    mode = "spiffe"
    ca_bundle_path = "roots.pem"
  }
}
NodeAttestor "join_token" { plugin_data { ttl = 1 } }
UpstreamAuthority "spire" { plugin_data { } }`)
  expect(problems).toEqual([
    { kind: 'KeyManager', name: 'disk', notes: [{ text: 'keys_path is required', line: 4, odd: false }] },
    {
      kind: 'NodeAttestor',
      name: 'x509pop',
      notes: [{ text: 'you can not use ca_bundle_path or ca_bundle_paths in spiffe mode', line: 7, odd: false }],
    },
    {
      kind: 'NodeAttestor',
      name: 'join_token',
      notes: [{ text: 'unknown setting "ttl" encountered', line: 11, odd: true }],
    },
    {
      kind: 'UpstreamAuthority',
      name: 'spire',
      notes: ['server_address', 'server_port', 'workload_api_socket'].map((key) => ({
        text: `${key} is required`,
        line: 12,
        odd: false,
      })),
    },
  ])
})

test('a number of plugins that must not be is told, and ends a start', async () => {
  expect(await check(NEEDED)).toEqual([
    {
      kind: 'KeyManager',
      name: undefined,
      notes: [{ text: 'constraint not satisfied: expected exactly 1 but got 0', line: undefined, odd: false }],
    },
  ])
  const options = readServerConfig(`server { trust_domain = "example.org" data_dir = "/d" } plugins { ${NEEDED} }`, 'c')
  await expect(
    requireUsablePlugins(new PluginSet('server', options.plugins, noExternal), {
      ...options,
      clock: systemClock,
      verify: nodeVerifier(),
    }),
  ).rejects.toThrow('plugin type "KeyManager" constraint not satisfied: expected exactly 1 but got 0')
})

test('a database that is not supported ends a start with what SPIRE says of it', async () => {
  const plugins = 'DataStore "sql" { plugin_data { database_type = "oracle" } } KeyManager "memory" { plugin_data {} }'
  const options = readServerConfig(
    `server { trust_domain = "example.org" data_dir = "/d" } plugins { ${plugins} }`,
    'c',
  )
  await expect(
    requireUsablePlugins(new PluginSet('server', options.plugins, noExternal), {
      ...options,
      clock: systemClock,
      verify: nodeVerifier(),
    }),
  ).rejects.toThrow(/^datastore-sql: unsupported database_type: oracle; this version supports /)
})

test('plugins that are not enabled are not looked at', async () => {
  const off = 'KeyManager "disk" { enabled = false plugin_data {} }'
  expect(await check(`${NEEDED} ${off} KeyManager "memory" { plugin_data {} }`)).toEqual([])
})
