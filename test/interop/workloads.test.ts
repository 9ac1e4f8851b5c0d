import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type AgentFiles, Cluster, eventually, type ServerFiles, spiffe } from '../support/cluster.ts'

const CACHE = resolve(import.meta.dirname, '../../node_modules/.cache/turret')
const hasGo = spawnSync('go', ['version']).status === 0
const hasPython = spawnSync('python3', ['-m', 'venv', '--help']).status === 0
const hasJava = ['mvn', 'javac'].every((program) => spawnSync(program, ['-version']).status === 0)
const ID = spiffe('workload')

const cluster = new Cluster()
let server: ServerFiles
let agent: AgentFiles
let entry: string

beforeAll(async () => {
  const pair = await cluster.startPair('interop')
  server = pair.server
  agent = pair.agent
  entry = await cluster.entry(server, 'interop/agent', 'workload')
  await cluster.jwt(agent, 'warm-up')
}, 60_000)

afterAll(() => cluster.stop(), 30_000)

test.skipIf(!hasGo)(
  `go-spiffe: sources, mTLS, tokens, and a rotation over the open stream${hasGo ? '' : ' (skipped: there is no go)'}`,
  async () => {
    const folder = join(import.meta.dirname, 'go/workload')
    mkdirSync(CACHE, { recursive: true })
    execFileSync('go', ['build', '-o', join(CACHE, 'go-workload'), '.'], { cwd: folder, stdio: 'inherit' })
    const child = spawn(join(CACHE, 'go-workload'), [agent.socket, ID], { stdio: ['ignore', 'pipe', 'pipe'] })
    let out = ''
    let err = ''
    const waiting = new Promise<void>((done, fail) => {
      child.stdout.on('data', (chunk) => {
        out += chunk
        if (out.includes('waiting')) done()
      })
      child.on('exit', () => fail(new Error(err)))
    })
    child.stderr.on('data', (chunk) => {
      err += chunk
    })
    const ended = new Promise((done) => child.on('exit', done))
    await waiting
    await cluster.must(
      server,
      'entry',
      'update',
      '-entryID',
      entry,
      '-parentID',
      spiffe('interop/agent'),
      '-spiffeID',
      spiffe('renamed'),
      '-selector',
      `unix:uid:${process.getuid!()}`,
    )
    expect(await ended).toBe(0)
    expect(out.trim().split('\n')).toEqual([
      `x509 ${ID} 1`,
      'mtls hello',
      `jwt ${ID}`,
      `validated ${ID}`,
      'bundles 1',
      'waiting',
      `updated ${spiffe('renamed')}`,
    ])
    await cluster.must(
      server,
      'entry',
      'update',
      '-entryID',
      entry,
      '-parentID',
      spiffe('interop/agent'),
      '-spiffeID',
      ID,
      '-selector',
      `unix:uid:${process.getuid!()}`,
    )
  },
  180_000,
)

test.skipIf(!hasPython)(
  `the Python package spiffe: sources and validation${hasPython ? '' : ' (skipped: there is no python3 with venv)'}`,
  async () => {
    await eventually(async () =>
      expect((await cluster.agent(agent, 'api', 'fetch', 'x509')).stdout).toContain(`${ID}\n`),
    )
    const folder = join(CACHE, 'python')
    execFileSync(join(import.meta.dirname, 'python/setup'), [folder], { stdio: 'inherit' })
    const { status, stdout, stderr } = spawnSync(
      join(folder, 'bin/python'),
      [join(import.meta.dirname, 'python/workload.py'), agent.socket, ID],
      { encoding: 'utf8', timeout: 60_000 },
    )
    expect(stderr).toBe('')
    expect(status).toBe(0)
    expect(stdout.trim().split('\n')).toEqual([
      `x509 ${ID} 1`,
      `jwt ${ID}`,
      `validated ${ID}`,
      'bundles 1',
      expect.stringMatching(/^refused /),
    ])
  },
  180_000,
)

// Both write the path of the socket into `:authority`.

test.skipIf(!hasGo)(
  `go-spiffe 1.1.0, of 2020${hasGo ? '' : ' (skipped: there is no go)'}`,
  () => {
    const program = join(CACHE, 'go-workload-v1')
    const cwd = join(import.meta.dirname, 'go/workload-v1')
    execFileSync('go', ['build', '-o', program, '.'], { cwd, stdio: 'inherit' })
    const { status, stdout, stderr } = spawnSync(program, [agent.socket], { encoding: 'utf8', timeout: 60_000 })
    expect(stderr).toBe('')
    expect(status).toBe(0)
    expect(stdout).toBe(`x509 ${ID} 1\n`)
  },
  180_000,
)

test.skipIf(!hasJava)(
  `java-spiffe 0.8.17: sources, tokens, validation${hasJava ? '' : ' (skipped: there is no javac with mvn)'}`,
  () => {
    const folder = join(CACHE, 'java')
    execFileSync(join(import.meta.dirname, 'java/setup'), [folder], { stdio: 'inherit' })
    const classpath = `${readFileSync(join(folder, 'classpath'), 'utf8').trim()}:${folder}`
    const args = ['-cp', classpath, 'Workload', agent.socket, ID]
    const { status, stdout, stderr } = spawnSync('java', args, { encoding: 'utf8', timeout: 60_000 })
    expect(status, stderr).toBe(0)
    expect(stdout.trim().split('\n')).toEqual([`x509 ${ID} 1`, 'bundle 1', `jwt ${ID}`, `validated ${ID}`])
  },
  300_000,
)
