import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { makeCertificate } from '../../test/support/x509.ts'
import { parseHcl } from '../config/hcl.ts'
import { type PlainObject, plainObject } from '../config/plain.ts'
import { readPlugins } from '../config/plugins.ts'
import { encodePem } from '../core/pem.ts'
import { parseTrustDomainName } from '../core/trust-domain.ts'
import type { Half, Kind, PluginDeclaration, ReadHost } from './plugin.ts'
import { REGISTRY } from './registry.ts'

const DOCS = resolve(import.meta.dirname, '../../docs/plugins')
const HOST: ReadHost = { trustDomain: parseTrustDomainName('example.org'), dataDir: '/d' }

const plugins: [kind: Kind, name: string, declaration: PluginDeclaration<Kind>][] = []
for (const [kind, named] of Object.entries(REGISTRY)) {
  for (const [name, load] of Object.entries(named)) plugins.push([kind as Kind, name, (await load()).default])
}
const halves = plugins.flatMap(([kind, name, declaration]) =>
  (['server', 'agent'] as const).flatMap((side) => {
    const half = declaration[side] as Half<unknown, unknown> | undefined
    return half === undefined ? [] : [{ kind, name, side, half }]
  }),
)

/** What examples name in /etc/turret is there. */
const etc = mkdtempSync(join(tmpdir(), 'turret-examples-'))
afterAll(() => rmSync(etc, { recursive: true }))
writeFileSync(join(etc, 'roots.pem'), encodePem('CERTIFICATE', (await makeCertificate({ name: 'root', ca: true })).der))

const pageOf = (kind: string, name: string) => join(DOCS, `${kind.toLowerCase()}-${name}.md`)

test.each(plugins)('%s "%s" has a page in the shape of all pages', (kind, name) => {
  expect(existsSync(pageOf(kind, name)), pageOf(kind, name)).toBe(true)
  const page = readFileSync(pageOf(kind, name), 'utf8')
  expect(page.split('\n')[0]).toBe(`# ${kind} \`${name}\``)
  const sections = [...page.matchAll(/^## (.*)$/gm)].map(([, title]) => title!)
  const expected = [
    'Configuration',
    ...(/Attestor/.test(kind) ? ['Selectors'] : []),
    'Example',
    'Differences from SPIRE',
  ]
  expect(sections.filter((title) => expected.includes(title))).toEqual(expected)
})

test.each(halves)('each key that the reader of $kind "$name" ($side) knows is on its page', ({ kind, name, half }) => {
  const page = readFileSync(pageOf(kind, name), 'utf8')
  for (const key of half.keys) {
    for (const part of key.split('.').filter((one) => one !== '*')) expect(page).toContain(`\`${part}\``)
  }
})

/** The examples of a page: blocks of HCL. */
function examplesOf(kind: string, name: string): PlainObject[] {
  const page = readFileSync(pageOf(kind, name), 'utf8')
  return [...page.matchAll(/^```hcl\n([\s\S]*?)^```$/gm)].flatMap(([, text]) =>
    readPlugins(parseHcl(`plugins {\n${text!.replaceAll('/etc/turret/', `${etc}/`)}\n}`).items)
      .filter((config) => config.type === kind && config.name === name)
      .map(({ data }) => plainObject(data)),
  )
}

test.each(plugins)(
  'the examples of %s "%s" are valid, and name only keys that are read',
  async (kind, name, declaration) => {
    const examples = examplesOf(kind, name)
    expect(examples.length).toBeGreaterThan(0)
    for (const data of examples) {
      const ends: unknown[] = []
      for (const half of [declaration.server, declaration.agent] as (Half<unknown, unknown> | undefined)[]) {
        if (half === undefined) continue
        ends.push(await half.check(data, HOST).catch((error: Error) => error))
      }
      expect(ends).toContainEqual([])
      const known = halves.filter((one) => one.kind === kind && one.name === name).flatMap(({ half }) => half.keys)
      for (const key of keysOf(data))
        expect(
          known.some((pattern) => matches(pattern, key)),
          key,
        ).toBe(true)
    }
  },
)

test.each(halves)('$kind "$name" ($side) reads no key that it does not name', async ({ kind, name, half }) => {
  for (const data of examplesOf(kind, name)) {
    const read = new Set<string>()
    const watched = new Proxy(data, {
      get(target, key, receiver) {
        if (typeof key === 'string') read.add(key)
        return Reflect.get(target, key, receiver)
      },
    })
    await half.check(watched, HOST).catch(() => {})
    for (const key of read) expect(half.keys.map((known) => known.split('.')[0])).toContain(key)
  }
})

function keysOf(data: PlainObject): string[] {
  return Object.entries(data).flatMap(([key, value]) =>
    typeof value === 'object' && !Array.isArray(value)
      ? keysOf(value as PlainObject).map((inner) => `${key}.${inner}`)
      : [key],
  )
}

function matches(pattern: string, key: string): boolean {
  const [wanted, found] = [pattern.split('.'), key.split('.')]
  return wanted.every((part, index) => part === '*' || part === found[index]) && found.length >= wanted.length
}
