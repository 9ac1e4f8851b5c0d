import { expect, test } from 'vitest'
import { broker } from './broker.ts'

const offer = (address: string) => ({ serviceId: 1, network: 'unix', address, knock: undefined })
const knock = (ack: boolean, error = '') => ({
  serviceId: 1,
  network: '',
  address: '',
  knock: { knock: true, ack, error },
})

test('an offer is found by who waited for it and who comes later, and the newest counts', async () => {
  const offers = broker()
  const early = offers.offered(1)
  offers.take(offer('/a'))
  expect((await early).address).toBe('/a')
  offers.take(offer('/b'))
  expect((await offers.offered(1)).address).toBe('/b')
})

test('nobody waits for ever', async () => {
  const offers = broker(1)
  offers.take({ ...offer('/a'), serviceId: 2 })
  await expect(offers.offered(1)).rejects.toMatchObject({ code: 'UNAVAILABLE' })
  await expect(offers.knock(1)).rejects.toMatchObject({ code: 'UNAVAILABLE' })
})

test('the host hears a knock and opens, or says why not', async () => {
  const offers = broker()
  const ending = new AbortController()
  const heard = offers.outgoing(ending.signal)[Symbol.asyncIterator]()
  const first = offers.knock(1)
  expect((await heard.next()).value).toEqual(knock(false))
  // What knocks here is no answer, and neither is an offer.
  offers.take(knock(false))
  offers.take(offer('/a'))
  offers.take(knock(true))
  await first
  const second = offers.knock(1)
  offers.take(knock(true, 'nobody there'))
  await expect(second).rejects.toMatchObject({ message: 'failed to knock for id 1: nobody there' })
  ending.abort()
})
