import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

const given = process.env.SPIRE_BIN ?? ''
const missing = given === ''
if (missing) console.warn('SPIRE_BIN is not set: the texts for bad configurations are NOT compared with those of SPIRE')
const folder = missing ? '' : given.endsWith('spire-server') ? dirname(given) : given
const bin = fileURLToPath(new URL('../../bin/', import.meta.url))

/** Lines into `server { }`, the whole of what is wrong with a file; SPIRE's `validate` says the same of each. */
const SERVER_LINES = `
  bogus = 1
  "bogus" = 1
  ca_subject { bogus = 1 }
  ca_subject = "x"
  ratelimit { attestation = "no" bogus = 1 }
  ratelimit { bogus = 1 }
  audit_log_enabled = 1
  admin_ids = "spiffe://example.org/a"
  admin_ids = ["foo"]
  agent_ttl = 5
  ca_ttl = "zz"
  ca_key_type = "foo"
  ca_key_type = "EC-P256"
  default_x509_svid_ttl = "abc"
  log_level = 5
  log_format = "foo"
  bind_port = "abc"
  bind_port = 99999
  bind_port = 80.5
  trust_domain = "a b"
  trust_domain = ["a"]
  trust_domain = ""
  data_dir = true
  max_attested_node_info_staleness = "x"
  prune_attested_nodes_expired_for = "x"
  proxy_protocol_trusted_cidrs = ["x"]
  federation { bogus = 1 }
  federation { bundle_endpoint { address = "127.0.0.1" port = 8443 bogus = 1 } }
  federation { bundle_endpoint { port = 8443 acme { domain_name = "x" } } }
  federation { bundle_endpoint { port = 8443 acme { domain_name = "x" email = "y" } profile "https_spiffe" {} } }
  federation { bundle_endpoint { port = 8443 profile "https_web" { } } }
  federation { bundle_endpoint { port = 8443 profile "foo" { } } }
  federation { bundle_endpoint { port = 8443 profile "https_web" { serving_cert_file { cert_file_path = "a" } } } }
  federation { federates_with "b" { } }
  federation { federates_with "b" { bundle_endpoint_url = "http://x" } }
  federation { federates_with "b" { bundle_endpoint_url = "https://x" } }
  federation { federates_with "b" { bundle_endpoint_url = "https://x" bundle_endpoint_profile "https_spiffe" {} } }
  federation { federates_with "b" { bundle_endpoint_url = "https://x" bundle_endpoint_profile "foo" {} } }
  federation { federates_with "B" { bundle_endpoint_url = "https://x" bundle_endpoint_profile "https_web" {} } }
  experimental { bogus = 1 }
  experimental { cache_reload_interval = "x" }
  experimental { event_timeout = "1s" sql_transaction_timeout = "1s" }
  experimental { feature_flags = ["x"] }
  experimental { named_pipe_name = "x" }
  } telemetry { Prometheus { bogus = 1 }
  } telemetry { DogStatsd = [ { address = "x" bogus = 2 } ]
  } health_checks { bogus = 1
  } foo {
  a = }
  a = [1, }
  a = "x }
  ca_subject { "a" }
  a b
  a : 1
  a = "\\q"
  a = /
  = 1
  true = 1
  !`

const AGENT_LINES = `
  bogus = 1
  admin_socket_path = "HOME/admin.sock"
  join_token = "x" join_token_file = "y"
  join_token_file = "/nope"
  join_token_file = "/dev/null"
  trust_bundle_url = "https://x"
  trust_bundle_url = "https://x" trust_bundle_path = "/x"
  trust_bundle_format = "foo"
  rebootstrap_mode = "foo"
  rebootstrap_mode = "auto"
  allowed_foreign_jwt_claims = "x"
  authorized_delegates = ["x"]
  authorized_delegates = ["spiffe://other.org/x"]
  availability_target = "1h"
  workload_x509_svid_key_type = "rsa-4096"
  workload_x509_svid_key_type = "RSA-2048"
  x509_svid_cache_max_size = -1
  experimental { sync_interval = "x" }
  experimental { jwt_svid_cache_hit_timeout = "4s" }
  experimental { feature_flags = ["x"] }
  experimental { ratelimit { fetch_x509_svid = -1 } }
  experimental { ratelimit { bogus = 1 } }
  experimental { use_sync_authorized_entries = false }
  experimental { broker { } }
  experimental { broker { socket_path = "/x" bogus = 1 } }
  experimental { broker { socket_path = "/x" brokers = [ { } ] } }
  experimental { broker { socket_path = "/x" brokers = [ { id = "x" } ] } }
  experimental { broker { socket_path = "/x" brokers = [ { id = "spiffe://a/x" bogus = 1 } ] } }
  sds { default_bundle_name = "ALL" }
  server_port = "abc"
  trust_domain = "A"
  insecure_bootstrap = "true"
  } health_checks { bogus = 1`

/** Whole plugins sections. */
const SERVER_PLUGINS = `
  Foo "x" { }
  KeyManager "memory" { } KeyManager "disk" { plugin_data { keys_path = "x" } }
  KeyManager "disk" { plugin_data { } }
  KeyManager "memory" { } NodeAttestor "nope" { }
  KeyManager "memory" { } NodeAttestor "join_token" { plugin_data { a = 1 } }
  KeyManager "memory" { } NodeAttestor "join_token" { plugin_data_file = "/nope" }
  KeyManager "memory" { } NodeAttestor "join_token" { plugin_data { } plugin_data_file = "/nope" }
  KeyManager "memory" { } NodeAttestor "x509pop" { plugin_data { } }
  KeyManager "memory" { } NodeAttestor "x509pop" { plugin_data { mode = "foo" } }
  KeyManager "memory" { } NodeAttestor "x509pop" { plugin_data { mode = "spiffe" ca_bundle_path = "x" } }
  KeyManager "memory" { } NodeAttestor "x509pop" { plugin_data { ca_bundle_path = "/nope" } }
  KeyManager "memory" { } UpstreamAuthority "disk" { plugin_data { } }
  KeyManager "memory" { } UpstreamAuthority "spire" { plugin_data { server_port = 1 } }`

const lines = (text: string) => text.trim().split(/\n\s*/)

describe.skipIf(missing)('validate says of a bad configuration what SPIRE says', { timeout: 30_000 }, () => {
  let home = ''
  beforeAll(() => {
    home = mkdtempSync(join(tmpdir(), 'turret-config-'))
  })
  afterAll(() => rmSync(home, { recursive: true, force: true }))

  const server = (line: string, plugins = 'KeyManager "memory" { }') => `server {
  bind_address = "127.0.0.1"
  trust_domain = "example.org"
  data_dir = "${home}/data"
  ${line}
}
plugins {
  DataStore "sql" { plugin_data { database_type = "sqlite3" connection_string = "${home}/datastore.sqlite3" } }
  ${plugins}
}
`
  const agent = (line: string) => `agent {
  server_address = "127.0.0.1"
  server_port = 8081
  socket_path = "${home}/api.sock"
  trust_domain = "example.org"
  insecure_bootstrap = true
  ${line.replace('HOME', home)}
}
plugins { }
`

  async function compare(program: 'server' | 'agent', text: string): Promise<void> {
    const config = join(home, `${program}.conf`)
    writeFileSync(config, text)
    const said = (path: string) =>
      new Promise<string>((resolve) => {
        execFile(path, ['validate', '-config', config], (error, out, err) => {
          resolve(`${error?.code ?? 0}\n${out}${err}`.replace(/^time="[^"]*"/gm, 'time'))
        })
      })
    const [ours, theirs] = [await said(`${bin}turret-${program}`), await said(join(folder, `spire-${program}`))]
    // Lines of our own come after SPIRE's.
    const isOurs = (one: string) =>
      /^(see \w+ ".*", line \d+|did you mean ".*"\?|\w+ has [\w, ]+|this version has no \w+)$/.test(one)
    const shown = ours.split('\n')
    const [last, ...before] = shown.reverse()
    const first = before.findIndex((one) => !isOurs(one))
    expect([...before.slice(first).reverse(), last].join('\n').trimEnd()).toBe(theirs.trimEnd())
  }

  test.each(lines(SERVER_LINES))('server { %s }', (line) => compare('server', server(line)))
  test.each(lines(SERVER_PLUGINS))('server plugins { %s }', (plugins) => compare('server', server('', plugins)))
  test.each(lines(AGENT_LINES))('agent { %s }', (line) => compare('agent', agent(line)))
  test.each(['', '{}', 'server', 'server {\n', 'server { trust_domain = "a" }', 'server = 5', 'plugins { } }'])(
    'a server file of %j',
    (text) => compare('server', `${text}\n`),
  )
})
