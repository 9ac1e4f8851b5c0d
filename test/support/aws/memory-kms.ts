import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import { AwsError, type AwsSend } from '../../../src/plugins/aws/call.ts'

interface Key {
  readonly privateKey: KeyObject
  readonly description: string
  readonly spec: string
  readonly createdAt: number
  readonly policy: string | undefined
  readonly tags: unknown
  enabled: boolean
}

interface Alias {
  target: string
  updatedAt: number
}

type Input = Readonly<Record<string, string>>

/** AWS KMS in memory, as far as a KeyManager sees it, and ways to let it answer otherwise. */
export interface MemoryKms {
  readonly send: AwsSend
  /** By ARN; a key that is scheduled for deletion is disabled. */
  readonly keys: Map<string, Key>
  readonly aliases: Map<string, Alias>
  /** Actions in their order, with what they were about. */
  readonly asked: { readonly action: string; readonly input: Input }[]
  /** Unix seconds. */
  now: number
  /** Throws for what KMS will not do. */
  refuse: (action: string) => void
  /** Changes an answer. */
  change: (action: string, answer: Record<string, unknown>) => unknown
}

/** @param pageSize how many keys or aliases come at once */
export function memoryKms(pageSize = 2): MemoryKms {
  const keys = new Map<string, Key>()
  const aliases = new Map<string, Alias>()
  let made = 0

  function arnOf(id: string): string {
    const arn = id.startsWith('alias/') ? aliases.get(id)?.target : id
    if (arn === undefined || !keys.has(arn)) throw new AwsError('NotFoundException', `NotFoundException: ${id}`)
    return arn
  }

  function page(all: readonly unknown[], name: string, marker: string | undefined) {
    const start = Number(marker ?? 0)
    const end = start + pageSize
    return { [name]: all.slice(start, end), ...(end < all.length ? { Truncated: true, NextMarker: String(end) } : {}) }
  }

  const actions: Readonly<Record<string, (input: Input) => Record<string, unknown>>> = {
    CreateKey({ Description, KeySpec, Policy, Tags }) {
      const { privateKey } = KeySpec!.startsWith('RSA')
        ? generateKeyPairSync('rsa', { modulusLength: Number(KeySpec!.slice(4)) })
        : generateKeyPairSync('ec', { namedCurve: KeySpec === 'ECC_NIST_P256' ? 'P-256' : 'P-384' })
      const arn = `arn:${++made}`
      keys.set(arn, {
        privateKey: createPrivateKey({
          key: privateKey.export({ type: 'pkcs8', format: 'der' }),
          format: 'der',
          type: 'pkcs8',
        }),
        description: Description!,
        spec: KeySpec!,
        createdAt: kms.now,
        policy: Policy,
        tags: Tags,
        enabled: true,
      })
      return { KeyMetadata: { Arn: arn } }
    },
    DescribeKey({ KeyId }) {
      const Arn = arnOf(KeyId!)
      const { spec, enabled, description, createdAt } = keys.get(Arn)!
      return {
        KeyMetadata: { Arn, KeySpec: spec, Enabled: enabled, Description: description, CreationDate: createdAt },
      }
    },
    GetPublicKey({ KeyId }) {
      const key = createPublicKey(keys.get(arnOf(KeyId!))!.privateKey)
      return { PublicKey: key.export({ type: 'spki', format: 'der' }).toString('base64') }
    },
    Sign: ({ KeyId, Message }) => ({
      // Of the digest, not of a message: no test here verifies it.
      Signature: sign('sha256', Buffer.from(Message!, 'base64'), keys.get(arnOf(KeyId!))!.privateKey).toString(
        'base64',
      ),
    }),
    CreateAlias({ AliasName, TargetKeyId }) {
      if (aliases.has(AliasName!)) throw new AwsError('AlreadyExistsException', 'AlreadyExistsException')
      aliases.set(AliasName!, { target: arnOf(TargetKeyId!), updatedAt: kms.now })
      return {}
    },
    UpdateAlias({ AliasName, TargetKeyId }) {
      arnOf(AliasName!)
      aliases.set(AliasName!, { target: arnOf(TargetKeyId!), updatedAt: kms.now })
      return {}
    },
    DeleteAlias({ AliasName }) {
      arnOf(AliasName!)
      aliases.delete(AliasName!)
      return {}
    },
    ListAliases({ KeyId, Marker }) {
      const all = [...aliases]
        .filter(([, { target }]) => KeyId === undefined || target === KeyId)
        .map(([AliasName, { target, updatedAt }]) => ({
          AliasName,
          TargetKeyId: target,
          LastUpdatedDate: updatedAt,
        }))
      return page(all, 'Aliases', Marker)
    },
    ListKeys: ({ Marker }) =>
      page(
        [...keys.keys()].map((KeyArn) => ({ KeyArn })),
        'Keys',
        Marker,
      ),
    ScheduleKeyDeletion({ KeyId }) {
      const key = keys.get(arnOf(KeyId!))!
      if (!key.enabled) throw new AwsError('KMSInvalidStateException', 'KMSInvalidStateException: pending deletion')
      key.enabled = false
      return {}
    },
  }

  const kms: MemoryKms = {
    keys,
    aliases,
    asked: [],
    now: 1_800_000_000,
    refuse() {},
    change: (_, answer) => answer,
    async send(headers, body) {
      const action = headers['x-amz-target']!.replace('TrentService.', '')
      const input: Input = JSON.parse(body)
      kms.asked.push({ action, input })
      kms.refuse(action)
      return JSON.stringify(kms.change(action, actions[action]!(input)))
    },
  }
  return kms
}
