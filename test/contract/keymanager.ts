import { verify } from 'node:crypto'
import { expect, test } from 'vitest'
import { KEY_TYPES, type KeyType } from '../../src/core/key-type.ts'
import type { KeyManager } from '../../src/core/plugin.ts'

/** What every KeyManager does. @param open a manager without keys */
export function keyManagerSuite(open: () => Promise<KeyManager>): void {
  const data = new TextEncoder().encode('what is signed')

  test.each(Object.keys(KEY_TYPES) as KeyType[])(
    'a %s key signs what its public key verifies',
    async (type) => {
      const manager = await open()
      const signer = await manager.generateKey('one', type)
      expect(signer.keyType).toBe(type)
      const signature = await signer.sign(data)
      const key = {
        key: Buffer.from(signer.publicKey),
        format: 'der',
        type: 'spki',
        dsaEncoding: 'ieee-p1363',
      } as const
      expect(verify(type === 'ec-p384' ? 'sha384' : 'sha256', data, key, signature)).toBe(true)
    },
    30_000,
  )

  test('a key is found by its name, and only by its name', async () => {
    const manager = await open()
    expect(await manager.getKey('one')).toBeUndefined()
    const signer = await manager.generateKey('one', 'ec-p256')
    expect((await manager.getKey('one'))?.publicKey).toEqual(signer.publicKey)
    expect(await manager.getKey('two')).toBeUndefined()
    expect([...(await manager.getKeys()).keys()]).toEqual(['one'])
  })

  test('a key made under a name that is taken replaces the one there', async () => {
    const manager = await open()
    const first = await manager.generateKey('one', 'ec-p256')
    const second = await manager.generateKey('one', 'ec-p384')
    expect(second.publicKey).not.toEqual(first.publicKey)
    expect((await manager.getKey('one'))?.keyType).toBe('ec-p384')
    expect((await manager.getKeys()).size).toBe(1)
  })

  test('keys that are made at once are all kept', async () => {
    const manager = await open()
    const names = Array.from({ length: 8 }, (_, index) => `key-${index}`)
    await Promise.all(names.map((name) => manager.generateKey(name, 'ec-p256')))
    expect([...(await manager.getKeys()).keys()].sort()).toEqual(names)
  })
}
