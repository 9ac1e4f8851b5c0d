import { expect, test } from 'vitest'
import type { Bundle } from '../core/bundle.ts'
import { silentLog } from '../core/log.ts'
import type { BundlePublisher, Notifier } from '../core/plugin.ts'
import { parseTrustDomain } from '../core/trust-domain.ts'
import { bundleNews } from './bundle-news.ts'

const trustDomain = parseTrustDomain('example.org')

function newsOf(parts: { notifiers?: readonly Notifier[]; publishers?: readonly BundlePublisher[] }) {
  const told: { change?: (key: string) => void } = {}
  let sequenceNumber = 1
  const bundle = async () => ({ trustDomain, sequenceNumber }) as Bundle
  const news = bundleNews({
    trustDomain,
    bundle,
    changes: {
      subscribe(listener) {
        told.change = (key) => listener([{ sequence: 1, kind: 'bundle', key }])
        return () => {}
      },
    },
    notifiers: parts.notifiers ?? [],
    publishers: parts.publishers ?? [],
    log: silentLog,
  })
  return {
    news,
    change(key: string = trustDomain) {
      sequenceNumber += 1
      told.change!(key)
    },
  }
}
const settled = () => new Promise((resolve) => setImmediate(resolve))

test('a slow publisher holds up nobody, and is told the newest bundle once it has time', async () => {
  const [slow, quick]: [number[], number[]] = [[], []]
  let go: () => void = () => {}
  const { news, change } = newsOf({
    publishers: [
      {
        name: 'slow',
        publish: async ({ sequenceNumber }) => {
          slow.push(sequenceNumber)
          await new Promise<void>((resolve) => {
            go = resolve
          })
        },
      },
      { name: 'quick', publish: async ({ sequenceNumber }) => void quick.push(sequenceNumber) },
    ],
  })
  await news.loaded()
  await settled()
  for (let count = 0; count < 3; count += 1) {
    change()
    await settled()
  }
  expect([slow, quick]).toEqual([[1], [1, 2, 3, 4]])
  go()
  await settled()
  expect(slow).toEqual([1, 4])
})

test('what failed is published again with the next bundle, and when it is time', async () => {
  const tries: number[] = []
  const { news, change } = newsOf({
    publishers: [
      {
        name: 'failing',
        async publish({ sequenceNumber }) {
          tries.push(sequenceNumber)
          throw new Error('not now')
        },
      },
    ],
  })
  await news.loaded()
  await settled()
  change()
  await settled()
  await news.tasks[0]!.run()
  await settled()
  change('other.org')
  await settled()
  expect(tries).toEqual([1, 2, 2])
})

test('a notifier that advises against it keeps the server from starting; later it is only told', async () => {
  const heard: string[] = []
  const notifier = (name: string, refuse: boolean): Notifier => ({
    name,
    async bundleLoaded() {
      heard.push(`${name} loaded`)
      if (refuse) throw new Error('no')
    },
    async bundleUpdated() {
      heard.push(`${name} updated`)
      throw new Error('no')
    },
  })
  const { news } = newsOf({ notifiers: [notifier('one', true), notifier('two', false)] })
  await expect(news.loaded()).rejects.toThrow('one or more notifiers returned an error: no')
  expect(heard).toEqual(['one loaded', 'two loaded'])
  const later = newsOf({ notifiers: [notifier('three', false)] })
  await later.news.loaded()
  later.change()
  await settled()
  expect(heard.slice(2)).toEqual(['three loaded', 'three updated'])
  expect(later.news.tasks).toEqual([])
})
