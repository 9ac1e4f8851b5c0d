import { writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { FakeProc } from '../../../../test/support/proc.ts'
import { parseTrustDomainName } from '../../../core/trust-domain.ts'
import declaration, { dockerAttestor } from './plugin.ts'

const ID = 'a'.repeat(64)
const OTHER = 'b'.repeat(64)
const never = new AbortController().signal
const peer = { pid: 7, uid: 1000, gid: 1000 }

const proc = new FakeProc()
const socketPath = join(proc.path, 'docker.sock')
const podmanPath = join(proc.path, 'podman.sock')
/** What the engine says to the next questions, and what it was asked. */
let answer: (path: string) => { status?: number; body?: unknown } | 'silence'
let asked: string[] = []

function engine(name: string) {
  return createServer((request, response) => {
    asked.push(`${name} ${request.url}`)
    const said = answer(request.url!)
    if (said === 'silence') return
    response.statusCode = said.status ?? 200
    response.end(typeof said.body === 'string' ? said.body : JSON.stringify(said.body))
  })
}
const servers = [engine('docker'), engine('podman')]

beforeAll(async () => {
  for (const [index, path] of [socketPath, podmanPath].entries())
    await new Promise<void>((done) => servers[index]!.listen(path, done))
})
afterAll(() => {
  for (const server of servers) {
    server.closeAllConnections()
    server.close()
  }
  proc.remove()
})

const CONTAINER = {
  Id: ID,
  Image: 'sha256:1234',
  State: { Pid: 9 },
  Config: { Image: 'web:1', Labels: { app: 'web', 'a:b': 'c\nlabel:app:admin' }, Env: ['PATH=/bin', 'X='] },
}

function host(path = `/docker/${ID}`, first = `/docker/${ID}`) {
  asked = []
  answer = (url) => ({ body: url.includes('/containers/') ? CONTAINER : { Id: 'sha256:1234' } })
  proc.set(7, { cgroup: `1:cpu:${path}\n` })
  proc.set(9, { cgroup: `1:cpu:${first}\n`, uid: 0 })
}

const attestor = (more = {}) =>
  dockerAttestor({
    docker: { socketPath },
    dockerVersion: '',
    podman: { socketPath: podmanPath },
    podmanOf: () => ({ socketPath: podmanPath }),
    findId: undefined,
    procPath: proc.path,
    retryMs: 1,
    ...more,
  })

test('a container is told by labels, environment, image and digest, each value as it is', async () => {
  host()
  expect(await attestor().attest(peer, never)).toEqual([
    'label:app:web',
    'label:a:b:c\nlabel:app:admin',
    'env:PATH=/bin',
    'env:X=',
    'image_id:web:1',
    'image_config_digest:sha256:1234',
  ])
  expect(asked).toEqual([`docker /containers/${ID}/json`, 'docker /images/sha256%3A1234/json'])
})

test('a process outside of containers has no selectors, and nobody is asked', async () => {
  host('/user.slice')
  expect(await attestor().attest(peer, never)).toEqual([])
  expect(asked).toEqual([])
})

test('the configured version of the API is asked for', async () => {
  host()
  await attestor({ dockerVersion: '1.41' }).attest(peer, never)
  expect(asked[0]).toBe(`docker /v1.41/containers/${ID}/json`)
})

test.each([
  [`/libpod_parent/libpod-${ID}`, undefined],
  [`/user.slice/user-1001.slice/user@1001.service/user.slice/libpod-${ID}.scope/container`, 1001],
])('Podman is asked about %s', async (path, uid) => {
  host(path, path)
  const users: number[] = []
  const podmanOf = (one: number) => {
    users.push(one)
    return { socketPath: podmanPath }
  }
  expect(await attestor({ podmanOf }).attest(peer, never)).toContain('label:app:web')
  expect(asked[0]).toBe(`podman /containers/${ID}/json`)
  expect(users).toEqual(uid === undefined ? [] : [uid])
})

test.each([
  ['a user’s own cgroup of that name', `/user.slice/user-1000.slice/user@1000.service/${ID}`],
  ['a cgroup of that name in another container', `/docker/${OTHER}/${ID}`],
])('who sits in %s is not in the container', async (_, path) => {
  host(path)
  await expect(attestor().attest(peer, never)).rejects.toThrow('the process is not in the cgroup of the container')
})

test('who leaves a cgroup of that name before the answer is not in the container', async () => {
  host(`/user.slice/user-1000.slice/user@1000.service/${ID}`)
  const path = join(proc.path, '7/cgroup')
  answer = (url) => {
    writeFileSync(path, '1:cpu:/user.slice\n')
    return { body: url.startsWith('/containers') ? CONTAINER : { Id: 'x' } }
  }
  await expect(attestor().attest(peer, never)).rejects.toThrow('the process changed its cgroup')
})

test('an answer about another container is not used', async () => {
  host()
  answer = () => ({ body: { ...CONTAINER, Id: OTHER } })
  await expect(attestor().attest(peer, never)).rejects.toThrow('the engine answered with another container')
})

test('a container that ended before the answer leaves nothing', async () => {
  host()
  answer = (url) => {
    if (url.startsWith('/images')) proc.end(7)
    return { body: url.startsWith('/containers') ? CONTAINER : { Id: 'x' } }
  }
  await expect(attestor().attest(peer, never)).rejects.toThrow('process 7 is gone')
})

test('a pid that another container got before the answer leaves nothing', async () => {
  host()
  answer = (url) => {
    if (url.startsWith('/images')) {
      proc.end(7)
      proc.set(7, { cgroup: `1:cpu:/docker/${ID}\n` })
    }
    return { body: url.startsWith('/containers') ? CONTAINER : { Id: 'x' } }
  }
  await expect(attestor().attest(peer, never)).rejects.toThrow('process 7 is gone')
})

test('an engine that fails is asked four times', async () => {
  host()
  answer = () => ({ status: 500, body: { message: 'no' } })
  await expect(attestor().attest(peer, never)).rejects.toThrow('Error response from daemon: 500 {"message":"no"}')
  expect(asked).toHaveLength(4)
})

test('an engine that says nothing costs no more than the deadline', async () => {
  host()
  answer = () => 'silence'
  await expect(attestor({ deadlineMs: 20 }).attest(peer, never)).rejects.toThrow('timeout')
})

test('an answer without end is left', async () => {
  host()
  answer = () => ({ body: ' '.repeat(5_000_000) })
  await expect(attestor().attest(peer, never)).rejects.toThrow('the answer has more than 4194304 bytes')
})

test('without an image there is no digest', async () => {
  host()
  answer = (url) => (url.startsWith('/containers') ? { body: CONTAINER } : { status: 404, body: {} })
  expect(await attestor().attest(peer, never)).not.toContainEqual(expect.stringContaining('digest'))
})

const check = (data: Record<string, string | boolean | string[]>) =>
  declaration.agent!.check(data, { trustDomain: parseTrustDomainName('example.org'), dataDir: '/d' })

test.each([
  [{ docker_socket_path: 'ftp://x' }, 'unable to parse docker host'],
  [{ podman_socket_path_template: 'unix:///run/x' }, 'must contain exactly one %d'],
  [{ podman_socket_path_template: 'unix:///run/%d/%' }, 'trailing %'],
  [{ podman_socket_path_template: 'unix:///run/%d/%s' }, 'only supports escaped'],
  [{ sigstore: true }, 'does not verify signatures'],
  [{ container_id_cgroup_matchers: ['/d/<id>'] }, 'cannot both be used'],
  [{ use_new_container_locator: false, container_id_cgroup_matchers: ['/d/*'] }, 'exactly once'],
  [{ use_new_container_locator: false, container_id_cgroup_matchers: ['/*/<id>', '/d/<id>'] }, 'must not be ambiguous'],
])('a configuration is refused: %j', async (data, message) => {
  await expect(check(data)).rejects.toThrow(message)
})

test('with patterns, only what they match is a container', async () => {
  const data = { use_new_container_locator: false, container_id_cgroup_matchers: ['/docker/<id>'] }
  expect(await check(data)).toEqual([])
  host('/docker/short', '/docker/short')
  answer = (url) => ({ body: url.startsWith('/containers') ? { ...CONTAINER, Id: 'short' } : { Id: 'x' } })
  const { containerIdFinder } = await import('./matchers.ts')
  const findId = containerIdFinder(['/docker/<id>'])
  expect(await attestor({ findId }).attest(peer, never)).toContain('label:app:web')
  host(`/x/${ID}`)
  expect(await attestor({ findId }).attest(peer, never)).toEqual([])
})
