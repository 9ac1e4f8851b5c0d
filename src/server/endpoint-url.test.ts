import { expect, test } from 'vitest'
import { parseEndpointUrl } from './endpoint-url.ts'

// Each row is what url.Parse and String of Go 1.26 make of it, and SPIRE's checks.

test.each([
  'https://x.test',
  'https://x.test?',
  'https://x.test/?q=a b%zz',
  'https://X.test/A%41%2f',
  "https://x.test/!$&'()*+,;=:@[b]",
  'https://x.test:99999/',
  'https://x.test:/',
  'https://[::1]:8443/',
  'https://[fe80::1%25eth0]/',
  'https://x_y.test/a//b/../c',
  'https://x"y.test/',
  'https://x.test/%C3%BC%c3',
])('%s is kept as it is', (url) => {
  expect(parseEndpointUrl(url)).toBe(url)
})

test.each([
  ['HTTPS://x.test/', 'https://x.test/'],
  ['https://x.test/a b', 'https://x.test/a%20b'],
  ['https://x.test/ü', 'https://x.test/%C3%BC'],
  ['https://x.test/a|b', 'https://x.test/a%7Cb'],
  ["https://x.test/ %41!'[%2F]", 'https://x.test/%20A%21%27%5B/%5D'],
  ['https://x.test/"<>\\^`{}', 'https://x.test/%22%3C%3E%5C%5E%60%7B%7D'],
  ['https://ü.test/', 'https://%C3%BC.test/'],
  ['https://%c3%bc.test/', 'https://%C3%BC.test/'],
  ['https://x.test/#', 'https://x.test/'],
  ['https://x.test/#a b', 'https://x.test/#a%20b'],
  ['https://x.test/#\u0001', 'https://x.test/#%01'],
])('%s is kept as %s', (url, kept) => {
  expect(parseEndpointUrl(url)).toBe(kept)
})

test.each([
  ['', 'bundle endpoint URL must use the https scheme'],
  ['x.test', 'bundle endpoint URL must use the https scheme'],
  ['//x.test', 'bundle endpoint URL must use the https scheme'],
  ['http://x.test', 'bundle endpoint URL must use the https scheme'],
  ['https:', 'bundle endpoint URL must specify the host'],
  ['https:x.test', 'bundle endpoint URL must specify the host'],
  ['https:///x', 'bundle endpoint URL must specify the host'],
  ['https://u:p@x.test', 'bundle endpoint URL must not contain user info'],
  ['https://@x.test', 'bundle endpoint URL must not contain user info'],
  ['https://x.test/%zz', 'parse "https://x.test/%zz": invalid URL escape "%zz"'],
  ['https://x.test/%4', 'parse "https://x.test/%4": invalid URL escape "%4"'],
  ['https://x.test/#%', 'invalid URL escape "%"'],
  ['https://x%41.test', 'invalid URL escape "%41"'],
  ['https://x test', 'invalid character " " in host name'],
  ['https://x.test:abc/', 'invalid port ":abc" after host'],
  ['https://x:1:2/', 'invalid port ":1:2" after host'],
  ['https://[::1', "missing ']' in host"],
  ['https://[::1]x', 'invalid port "x" after host'],
  ['https://[1.2.3.4]', 'invalid host'],
  ['https://a[::1]', 'after host'],
  ['https://x.test/\t', 'net/url: invalid control character in URL'],
  ['https://x.test/\u007f', 'net/url: invalid control character in URL'],
  [' https://x.test', 'first path segment in URL cannot contain colon'],
  [':x', 'missing protocol scheme'],
])('%j is refused', (url, message) => {
  expect(() => parseEndpointUrl(url)).toThrow(
    expect.objectContaining({ code: 'INVALID_ARGUMENT', message: expect.stringContaining(message) }),
  )
})

test('a long URL takes time by its length', () => {
  const before = process.cpuUsage()
  for (const piece of ['%', 'https:', 'a b', '[', ':', '%41']) {
    try {
      parseEndpointUrl(`https://x.test/${piece.repeat(100_000)}`)
    } catch {}
    try {
      parseEndpointUrl(`https://${piece.repeat(100_000)}`)
    } catch {}
  }
  expect(process.cpuUsage(before).user / 1000).toBeLessThan(2000)
})
