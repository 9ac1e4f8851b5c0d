import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { REGISTRY } from '../src/plugins/registry.ts'

const ROOT = resolve(import.meta.dirname, '..')

/** Who may import whom: design decisions, one row a room. A change here gets a commit of its own. */
const ROOMS: Record<string, { inside: readonly string[]; outside: readonly RegExp[] }> = {
  'src/core': { inside: [], outside: [] },
  proto: { inside: [], outside: [/^@bufbuild\/protobuf\/wire$/] },
  'src/rpc': { inside: ['src/core'], outside: [] },
  'src/server': { inside: ['src/core', 'src/rpc', 'proto'], outside: [/^jose$/] },
  'src/store': { inside: ['src/core'], outside: [/^drizzle-orm/, /^@libsql\//, /^libsql$/, /^pg$/, /^node:/] },
  'src/plugins': {
    inside: ['src/core', 'src/config', 'src/rpc', 'src/store', 'proto'],
    outside: [/^node:/, /^aws4fetch$/],
  },
  // Nobody but src/cli imports it.
  'src/plugins/external': {
    inside: ['src/core', 'src/config', 'src/rpc', 'src/plugins', 'src/transport', 'proto'],
    outside: [/^node:/],
  },
  'src/config': { inside: ['src/core'], outside: [] },
  'src/transport': {
    inside: ['src/core', 'src/rpc', 'proto'],
    outside: [/^@grpc\/grpc-js$/, /^koffi$/, /^node:/],
  },
  'src/plugin-sdk': {
    inside: ['src/core', 'src/rpc', 'src/config', 'src/transport', 'src/plugins', 'proto'],
    outside: [/^koffi$/, /^node:/],
  },
  'src/http': { inside: ['src/core', 'src/rpc', 'src/server', 'src/transport', 'proto'], outside: [/^hono/] },
  agent: { inside: ['src/core', 'src/rpc', 'src/transport', 'proto'], outside: [/^node:/] },
  'src/cli': {
    inside: [
      'src/core',
      'src/rpc',
      'src/server',
      'src/store',
      'src/plugins',
      'src/plugins/external',
      'src/config',
      'src/transport',
      'src/http',
      'agent',
      'proto',
    ],
    outside: [/^node:/, /^@hono\/node-server$/],
  },
  workers: {
    inside: [
      'src/core',
      'src/rpc',
      'src/server',
      'src/store',
      'src/plugins',
      'src/config',
      'src/transport',
      'src/http',
      'proto',
    ],
    outside: [/^hono/],
  },
}

/** Parts of proto/generate, which run on Node and never in a server. */
const GENERATORS = /^proto\/write-[\w-]+\.ts$/

/** The longest room that a file lies in. */
function roomOf(path: string): string | undefined {
  return Object.keys(ROOMS)
    .filter((room) => path === room || path.startsWith(`${room}/`))
    .sort((a, b) => b.length - a.length)[0]
}

function sources(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && !name.endsWith('.test.ts') && !name.includes('node_modules'))
    .map((name) => `${folder}/${name}`)
    .filter((path) => !GENERATORS.test(path))
}

/** Specifiers of static, dynamic and re-exporting imports. */
function imports(source: string): string[] {
  const found: string[] = []
  for (const match of source.matchAll(/(?:^|[\s;])(?:import|export)\s[^'"`;]*?from\s*['"]([^'"]+)['"]/g))
    found.push(match[1]!)
  for (const match of source.matchAll(/(?:^|[\s;])import\s*['"]([^'"]+)['"]/g)) found.push(match[1]!)
  for (const match of source.matchAll(/\bimport\(\s*['"]([^'"]+)['"]\s*\)/g)) found.push(match[1]!)
  return found
}

function trespasses(room: string): string[] {
  const { inside, outside } = ROOMS[room]!
  const found: string[] = []
  for (const file of sources(room).filter((path) => roomOf(path) === room)) {
    for (const specifier of imports(readFileSync(join(ROOT, file), 'utf8'))) {
      if (specifier.startsWith('.')) {
        const target = relative(ROOT, resolve(ROOT, dirname(file), specifier))
        const targetRoom = roomOf(target)
        if (targetRoom === room || (targetRoom && inside.includes(targetRoom))) continue
      } else if (outside.some((allowed) => allowed.test(specifier))) continue
      found.push(`${file} imports ${specifier}`)
    }
  }
  return found
}

test.each(Object.keys(ROOMS))('%s imports only what its row allows', (room) => {
  expect(trespasses(room)).toEqual([])
})

/** Plugins that use another one. */
const USES: Readonly<Record<string, readonly string[]>> = {
  // A nested server attests itself as an agent does.
  'upstreamauthority/spire': ['nodeattestor/join_token'],
}

test('no plugin imports from the room of another', () => {
  const rooms = Object.entries(REGISTRY).flatMap(([kind, named]) =>
    Object.keys(named).map((name) => `${kind.toLowerCase()}/${name}`),
  )
  const roomOf = (path: string) =>
    rooms.find((room) => path === `src/plugins/${room}.ts` || path.startsWith(`src/plugins/${room}/`))
  const found: string[] = []
  for (const file of sources('src/plugins')) {
    const room = roomOf(file)
    if (room === undefined) continue
    for (const specifier of imports(readFileSync(join(ROOT, file), 'utf8'))) {
      if (!specifier.startsWith('.')) continue
      const other = roomOf(relative(ROOT, resolve(ROOT, dirname(file), specifier)))
      if (other === undefined || other === room || USES[room]?.includes(other)) continue
      found.push(`${file} imports ${specifier}`)
    }
  }
  expect(found).toEqual([])
  expect(rooms.length).toBeGreaterThan(10)
})

test('src/core names no global of one runtime', () => {
  const found = sources('src/core').filter((file) =>
    /\b(Buffer|process|__dirname|setTimeout|setInterval|Deno|Bun)\b[.(]/.test(
      readFileSync(join(ROOT, file), 'utf8').replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, ''),
    ),
  )
  expect(found).toEqual([])
})

test('the reader of imports sees every form', () => {
  const source = `import a from './a.ts'\nimport './b.ts'\nexport { c } from "./c.ts"\nconst d = await import('./d.ts')`
  expect(imports(source).sort()).toEqual(['./a.ts', './b.ts', './c.ts', './d.ts'])
})
