import { expect, test } from 'vitest'
import { readServerConfig } from '../../config/server.ts'
import { CommandError } from '../failure.ts'
import { checkServerPlugins } from './plugin-checks.ts'

test.each([
  ['UpstreamCA "disk"', 'unsupported plugin type "UpstreamCA"', ['"UpstreamCA" is "UpstreamAuthority" now']],
  [
    'NodeResolver "aws_iid"',
    'unsupported plugin type "NodeResolver"',
    ['"NodeResolver" is gone: node attestors give the selectors of nodes themselves'],
  ],
  ['constructor "x"', 'unsupported plugin type "constructor"', []],
])('the plugin type in %s is refused with what became of it', (plugin, message, hints) => {
  const text = `server { trust_domain = "example.org" data_dir = "/d" } plugins { ${plugin} { plugin_data {} } }`
  const { plugins, trustDomain } = readServerConfig(text, 'server.conf')
  try {
    checkServerPlugins(plugins, trustDomain)
    expect.unreachable()
  } catch (error) {
    expect(error).toBeInstanceOf(CommandError)
    expect(error).toMatchObject({ message, hints })
  }
})
