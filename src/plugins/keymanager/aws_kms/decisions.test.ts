import { expect, test } from 'vitest'
import { type MemoryKms, memoryKms } from '../../../../test/support/aws/memory-kms.ts'
import { type Log, silentLog } from '../../../core/log.ts'
import { parseTrustDomainName } from '../../../core/trust-domain.ts'
import { AwsError } from '../../aws/call.ts'
import { type AwsKmsOptions, awsKmsKeyManager } from './aws_kms.ts'

// What KMS answers when it is not itself, and what is never thrown away. That it works at all is in aws_kms.test.ts, on another KMS.

const trustDomain = parseTrustDomainName('example.org')
const DAY = 86400
const ROLE = '<Account>123</Account><Arn>arn:aws:sts::123:assumed-role/turret/i-1</Arn>'

const open = (kms: MemoryKms, changes: Partial<AwsKmsOptions> = {}) =>
  awsKmsKeyManager({
    trustDomain,
    serverId: 'one',
    kms: kms.send,
    sts: async () => ROLE,
    log: silentLog,
    ...changes,
  })
const aliasOf = (id: string, server = 'one', domain = 'example_org') => `alias/SPIRE_SERVER/${domain}/${server}/${id}`
const states = (kms: MemoryKms) => [...kms.keys.values()].map(({ enabled }) => enabled)

type Spoil = (kms: MemoryKms) => void
/** Lets one action answer otherwise. */
const answering =
  (action: string, how: (answer: Record<string, unknown>) => unknown): Spoil =>
  (kms) => {
    kms.change = (asked, answer) => (asked === action ? how(answer) : answer)
  }
/** Lets one action fail. */
const failing =
  (action: string, code?: string): Spoil =>
  (kms) => {
    kms.refuse = (asked) => {
      if (asked === action) throw new AwsError(code, code ?? 'kms does not answer')
    }
  }
function heal(kms: MemoryKms): void {
  kms.change = (_, answer) => answer
  kms.refuse = () => {}
}
const describing = (says: object) => (answer: Record<string, unknown>) => ({
  KeyMetadata: { ...(answer.KeyMetadata as object), ...says },
})

test.each<[string, Spoil, string]>([
  ['describes nothing', answering('DescribeKey', () => ({})), 'malformed describe key response'],
  [
    'does not say which key it is',
    answering('DescribeKey', describing({ Arn: '' })),
    'malformed describe key response',
  ],
  [
    'says that it is disabled',
    answering('DescribeKey', describing({ Enabled: false })),
    'found disabled SPIRE key: "arn:1"',
  ],
  [
    'does not say that it is enabled',
    answering('DescribeKey', describing({ Enabled: undefined })),
    'found disabled SPIRE key',
  ],
  [
    'says that it is of a type unknown',
    answering('DescribeKey', describing({ KeySpec: 'SM2' })),
    'unsupported key spec: SM2',
  ],
  ['keeps the public key', answering('GetPublicKey', () => ({})), 'malformed response of KMS: PublicKey is missing'],
  ['fails', failing('DescribeKey'), 'failed to describe key'],
  ['fails at the public key', failing('GetPublicKey'), 'failed to get public key'],
])('a key of which KMS %s is not used, and not taken for missing', async (_, spoil, message) => {
  const kms = memoryKms()
  await open(kms).generateKey('x509-CA-A', 'ec-p256')
  spoil(kms)
  await expect(open(kms).getKey('x509-CA-A')).rejects.toThrow(message)
  await expect(open(kms).getKeys()).rejects.toThrow(message)
})

test('only a key that KMS does not know is missing', async () => {
  expect(await open(memoryKms()).getKey('x509-CA-A')).toBeUndefined()
})

test.each<[string, Spoil, string]>([
  ['does not say which one it made', answering('CreateKey', () => ({})), 'malformed create key response'],
  ['makes none', failing('CreateKey', 'LimitExceededException'), 'failed to create key'],
  ['keeps its public key', answering('GetPublicKey', () => ({})), 'PublicKey is missing'],
  ['gives it no name', failing('CreateAlias', 'LimitExceededException'), 'failed to create alias'],
])('of a new key of which KMS %s nothing is used, and the key before it stays', async (_, spoil, message) => {
  const kms = memoryKms()
  const manager = open(kms)
  const { publicKey } = await manager.generateKey('x509-CA-A', 'ec-p256')
  spoil(kms)
  await expect(manager.generateKey('x509-CA-B', 'ec-p256')).rejects.toThrow(message)
  await expect(manager.generateKey('x509-CA-A', 'ec-p256')).rejects.toThrow(message)
  heal(kms)
  expect([...(await manager.getKeys()).keys()]).toEqual(['x509-CA-A'])
  expect((await manager.getKey('x509-CA-A'))?.publicKey).toEqual(publicKey)
  expect(kms.keys.get('arn:1')?.enabled).toBe(true)
})

test('a name that is not moved to the new key leaves the one before in use', async () => {
  const kms = memoryKms()
  const manager = open(kms)
  const { publicKey } = await manager.generateKey('x509-CA-A', 'ec-p256')
  failing('UpdateAlias')(kms)
  await expect(manager.generateKey('x509-CA-A', 'ec-p256')).rejects.toThrow('failed to update alias')
  expect((await manager.getKey('x509-CA-A'))?.publicKey).toEqual(publicKey)
  expect(states(kms)).toEqual([true, true])
})

test('a signature that does not come, or is none, is an error', async () => {
  const kms = memoryKms()
  const signer = await open(kms).generateKey('x509-CA-A', 'ec-p256')
  expect(await signer.sign(new Uint8Array(1))).toHaveLength(64)
  expect(kms.asked.at(-1)).toMatchObject({
    action: 'Sign',
    input: { KeyId: 'arn:1', MessageType: 'DIGEST', SigningAlgorithm: 'ECDSA_SHA_256' },
  })
  answering('Sign', () => ({}))(kms)
  await expect(signer.sign(new Uint8Array(1))).rejects.toThrow('malformed response of KMS: Signature is missing')
  answering('Sign', () => ({ Signature: 'AAAA' }))(kms)
  await expect(signer.sign(new Uint8Array(1))).rejects.toThrow()
  failing('Sign')(kms)
  await expect(signer.sign(new Uint8Array(1))).rejects.toThrow('failed to sign')
})

test('the keys of other servers, and of trust domains and servers whose names begin alike, are none of ours', async () => {
  const kms = memoryKms()
  await open(kms, { serverId: 'one2' }).generateKey('x509-CA-A', 'ec-p256')
  await open(kms, { trustDomain: parseTrustDomainName('example.org.test') }).generateKey('x509-CA-A', 'ec-p256')
  const manager = open(kms)
  expect(await manager.getKeys()).toEqual(new Map())
  // Names with the letters that aliases do not take, over more than one page.
  const ids = ['a.b', 'a+b', 'a_b', 'ab', 'a.+b']
  for (const id of ids) await manager.generateKey(id, 'ec-p256')
  expect([...(await manager.getKeys()).keys()]).toEqual(ids)
  expect([...(await open(kms).getKeys()).keys()]).toEqual(ids)
  expect(kms.aliases.has(aliasOf('a_2eb'))).toBe(true)
  expect(kms.aliases.has(aliasOf('a_2bb'))).toBe(true)
})

test('a key that is known is not fetched again, one that a replica replaced is, and one that was removed is forgotten', async () => {
  const kms = memoryKms()
  const [one, two] = [open(kms), open(kms)]
  await one.generateKey('x509-CA-A', 'ec-p256')
  const first = await two.getKey('x509-CA-A')
  expect(await two.getKey('x509-CA-A')).toBe(first)
  expect((await two.getKeys()).get('x509-CA-A')).toBe(first)
  const { publicKey } = await one.generateKey('x509-CA-A', 'ec-p384')
  expect((await two.getKeys()).get('x509-CA-A')).toMatchObject({ publicKey, keyType: 'ec-p384' })
  kms.aliases.clear()
  expect(await two.getKeys()).toEqual(new Map())
  expect(await two.getKey('x509-CA-A')).toBeUndefined()
})

const deletions = (kms: MemoryKms) => kms.asked.filter(({ action }) => action === 'ScheduleKeyDeletion').length

test('a replaced key that cannot be scheduled for deletion is scheduled later, once', async () => {
  const kms = memoryKms()
  const manager = open(kms)
  await manager.generateKey('x509-CA-A', 'ec-p256')
  failing('ScheduleKeyDeletion')(kms)
  await manager.generateKey('x509-CA-A', 'ec-p256')
  await manager.maintain!(0)
  expect([deletions(kms), ...states(kms)]).toEqual([2, true, true])
  heal(kms)
  await manager.maintain!(0)
  expect([deletions(kms), ...states(kms)]).toEqual([3, false, true])
  await manager.maintain!(0)
  expect(deletions(kms)).toBe(3)
})

test.each(['NotFoundException', 'InvalidArnException', 'KMSInvalidStateException'])(
  'a replaced key that KMS answers %s about is not tried again',
  async (code) => {
    const kms = memoryKms()
    const manager = open(kms)
    await manager.generateKey('x509-CA-A', 'ec-p256')
    failing('ScheduleKeyDeletion', code)(kms)
    await manager.generateKey('x509-CA-A', 'ec-p256')
    await manager.maintain!(0)
    expect(deletions(kms)).toBe(1)
  },
)

/** A manager whose timers began, and whose KMS is so much older. */
async function after(seconds: number, kms: MemoryKms, changes: Partial<AwsKmsOptions> = {}) {
  const manager = open(kms, changes)
  await manager.getKeys()
  await manager.maintain!(kms.now)
  kms.now += seconds
  return () => manager.maintain!(kms.now)
}

test('aliases in use are touched after six hours, and only those that are still of our keys', async () => {
  const kms = memoryKms()
  const other = open(kms)
  await other.generateKey('x509-CA-A', 'ec-p256')
  await other.generateKey('x509-CA-B', 'ec-p256')
  const began = kms.now
  const maintain = await after(6 * 3600 - 1, kms)
  await maintain()
  expect(kms.aliases.get(aliasOf('x509-CA-A'))).toEqual({ target: 'arn:1', updatedAt: began })
  await other.generateKey('x509-CA-B', 'ec-p256')
  kms.now += 1
  await maintain()
  expect(kms.aliases.get(aliasOf('x509-CA-A'))).toEqual({ target: 'arn:1', updatedAt: began + 6 * 3600 })
  expect(kms.aliases.get(aliasOf('x509-CA-B'))).toEqual({ target: 'arn:3', updatedAt: began + 6 * 3600 - 1 })
  kms.now += 6 * 3600 - 1
  await maintain()
  expect(kms.aliases.get(aliasOf('x509-CA-A'))!.updatedAt).toBe(began + 6 * 3600)
})

test.each<[string, boolean, object]>([
  ['that nobody touched for two weeks', true, {}],
  ['that was touched an instant later', false, { touched: 1 }],
  ['of this server', false, { serverId: 'one' }],
  ['of another trust domain', false, { trustDomain: parseTrustDomainName('example.com') }],
  ['of a disabled key', false, { enabled: false }],
])('an alias %s is removed with its key: %s', async (_, removed, says) => {
  const { touched = 0, enabled = true, ...owner }: { touched?: number; enabled?: boolean } = says
  const kms = memoryKms()
  const maintain = await after(14 * DAY, kms)
  // By a replica, after this one looked: an alias that it knows it would touch first.
  await open(kms, { serverId: 'gone', ...owner }).generateKey('x509-CA-A', 'ec-p256')
  const [[alias]] = [...kms.aliases] as [[string, unknown]]
  kms.aliases.set(alias, { target: 'arn:1', updatedAt: kms.now - 14 * DAY + touched })
  kms.keys.get('arn:1')!.enabled = enabled
  await maintain()
  expect(kms.aliases.has(alias)).toBe(!removed)
  expect(states(kms)).toEqual([enabled && !removed])
})

test.each<[string, Record<string, unknown>]>([
  ['no target', { TargetKeyId: undefined }],
  ['no date', { LastUpdatedDate: undefined }],
])('an alias with %s is left alone', async (_, says) => {
  const kms = memoryKms()
  await open(kms, { serverId: 'gone' }).generateKey('x509-CA-A', 'ec-p256')
  const maintain = await after(15 * DAY, kms)
  answering('ListAliases', ({ Aliases }) => ({ Aliases: (Aliases as object[]).map((one) => ({ ...one, ...says })) }))(
    kms,
  )
  await maintain()
  expect(kms.aliases.size).toBe(1)
  expect(states(kms)).toEqual([true])
})

test.each<[string, boolean, string, object, number?]>([
  ['two days old', true, 'SPIRE_SERVER_KEY/example_org/x509-CA-A', {}],
  ['younger', false, 'SPIRE_SERVER_KEY/example_org/x509-CA-A', {}, 1],
  ['of another trust domain', false, 'SPIRE_SERVER_KEY/example_org_test/x509-CA-A', {}],
  ['without a description', false, '', {}],
  ['without a date', false, 'SPIRE_SERVER_KEY/example_org/x509-CA-A', { CreationDate: undefined }],
  ['that is disabled', false, 'SPIRE_SERVER_KEY/example_org/x509-CA-A', { Enabled: false }],
])('a key without alias that is %s is scheduled for deletion: %s', async (_, swept, description, says, younger = 0) => {
  const kms = memoryKms()
  await kms.send(
    { 'x-amz-target': 'TrentService.CreateKey' },
    JSON.stringify({ Description: description, KeySpec: 'ECC_NIST_P256' }),
  )
  const began = kms.now
  const maintain = await after(2 * DAY, kms)
  const key = kms.keys.get('arn:1')!
  kms.keys.set('arn:1', { ...key, createdAt: began + younger })
  answering('DescribeKey', describing(says))(kms)
  await maintain()
  expect(states(kms)).toEqual([!swept])
})

test('a key with an alias, whosever it is, is not swept', async () => {
  const kms = memoryKms()
  await kms.send(
    { 'x-amz-target': 'TrentService.CreateKey' },
    JSON.stringify({ Description: 'SPIRE_SERVER_KEY/example_org/x', KeySpec: 'ECC_NIST_P256' }),
  )
  kms.aliases.set('alias/kept', { target: 'arn:1', updatedAt: kms.now })
  await (await after(2 * DAY, kms))()
  expect(states(kms)).toEqual([true])
  kms.aliases.clear()
  await (await after(2 * DAY, kms))()
  expect(states(kms)).toEqual([false])
})

test('a key belongs to the role of the server, is described and tagged', async () => {
  const kms = memoryKms()
  await open(kms, { keyTags: { team: 'a', stage: 'b' } }).generateKey('x509-CA-A', 'ec-p256')
  const { policy, tags, description } = kms.keys.get('arn:1')!
  expect(description).toBe('SPIRE_SERVER_KEY/example_org/x509-CA-A')
  expect(tags).toEqual([
    { TagKey: 'team', TagValue: 'a' },
    { TagKey: 'stage', TagValue: 'b' },
  ])
  expect(JSON.parse(policy!).Statement).toMatchObject([
    { Effect: 'Allow', Principal: { AWS: 'arn:aws:iam::123:role/turret' }, Action: 'kms:*' },
    {
      Effect: 'Allow',
      Principal: { AWS: 'arn:aws:iam::123:root' },
      Action: ['kms:Describe*', 'kms:List*', 'kms:Get*'],
    },
  ])
  await open(kms, { keyPolicy: 'mine' }).generateKey('x509-CA-A', 'ec-p256')
  expect(kms.keys.get('arn:2')).toMatchObject({ policy: 'mine', tags: undefined })
})

test('without knowing its role no key is made; it is asked for again, and then no more', async () => {
  const kms = memoryKms()
  let asked = 0
  const manager = open(kms, {
    sts: async () => {
      asked += 1
      if (asked === 1) throw new AwsError(undefined, 'sts does not answer')
      return ROLE
    },
  })
  await expect(manager.generateKey('x509-CA-A', 'ec-p256')).rejects.toThrow('unable to create policy')
  expect(kms.keys.size).toBe(0)
  await manager.generateKey('x509-CA-A', 'ec-p256')
  await manager.generateKey('x509-CA-B', 'ec-p256')
  expect(asked).toBe(2)
})

test.each([
  ['a user', '<Account>123</Account><Arn>arn:aws:iam::123:user/me</Arn>'],
  ['nobody', ''],
  ['a role of no account', '<Arn>arn:aws:sts::123:assumed-role/turret/i-1</Arn>'],
])('whoever is %s gets the default policy of KMS, with a warning', async (_, answer) => {
  const kms = memoryKms()
  const warned: string[] = []
  const log: Log = { ...silentLog, warn: (message) => void warned.push(message) }
  await open(kms, { sts: async () => answer, log }).generateKey('x509-CA-A', 'ec-p256')
  expect(kms.keys.get('arn:1')!.policy).toBeUndefined()
  expect(warned).toEqual([expect.stringContaining('has not assumed a role')])
})

test('a list ends where KMS says so, or does not say how it goes on', async () => {
  for (const [says, found] of [
    [{ Truncated: false, NextMarker: '2' }, 2],
    [{ Truncated: true, NextMarker: undefined }, 2],
    [{}, 3],
  ] as const) {
    const kms = memoryKms()
    for (const id of ['a', 'b', 'c']) await open(kms).generateKey(id, 'ec-p256')
    answering('ListAliases', (answer) => ({ ...answer, ...says }))(kms)
    expect((await open(kms).getKeys()).size).toBe(found)
  }
})

test('the alias of a key that somebody removed is not touched any more', async () => {
  const kms = memoryKms()
  await open(kms).generateKey('x509-CA-A', 'ec-p256')
  const manager = open(kms)
  await manager.getKeys()
  await manager.maintain!(kms.now)
  kms.aliases.clear()
  expect(await manager.getKeys()).toEqual(new Map())
  kms.now += 6 * 3600
  await manager.maintain!(kms.now)
  expect(kms.aliases.size).toBe(0)
})

test('no more calls are made at once than may be', async () => {
  const kms = memoryKms()
  let [running, most] = [0, 0]
  const manager = open(kms, {
    concurrency: 2,
    async kms(headers, body) {
      running += 1
      most = Math.max(most, running)
      await new Promise((resolve) => setImmediate(resolve))
      running -= 1
      return kms.send(headers, body)
    },
  })
  await Promise.all(['a', 'b', 'c', 'd'].map((id) => manager.generateKey(id, 'ec-p256')))
  expect(most).toBe(2)
})
