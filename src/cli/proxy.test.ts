import { expect, test } from 'vitest'
import { proxySettings } from './proxy.ts'

const NEVER = 'localhost,127.0.0.1,[::1],::1,169.254.169.254'

test.each([
  ['nothing', {}, undefined],
  ['empty variables', { HTTPS_PROXY: '', http_proxy: '' }, undefined],
  ['exceptions alone', { NO_PROXY: 'a' }, undefined],
  ['a proxy', { HTTPS_PROXY: 'http://p:1' }, { HTTPS_PROXY: 'http://p:1', NO_PROXY: NEVER }],
  [
    'lower case first',
    { HTTPS_PROXY: 'http://p:1', https_proxy: 'http://q:1' },
    { HTTPS_PROXY: 'http://q:1', NO_PROXY: NEVER },
  ],
  ['no scheme', { HTTP_PROXY: 'p:3128' }, { HTTP_PROXY: 'http://p:3128', NO_PROXY: NEVER }],
  [
    'exceptions',
    { HTTP_PROXY: 'http://p', NO_PROXY: '.internal' },
    { HTTP_PROXY: 'http://p', NO_PROXY: `.internal,${NEVER}` },
  ],
])('%s is read', (_, env, settings) => {
  expect(proxySettings(env)).toEqual(settings)
})

test.each(['http://user:secret@', 'socks5://user:secret@p', 'user:secret@p:x'])(
  '%s is refused without being told',
  (value) => {
    expect(() => proxySettings({ HTTPS_PROXY: value })).toThrow(/^HTTPS_PROXY must be an http:\/\/ or https:\/\/ URL$/)
  },
)
